DROP TABLE cosignatures;
DROP TABLE checkpoints;
DROP TABLE members;
DROP TABLE workers;
DROP TABLE chains;
DROP TABLE challenges;
DROP TABLE settings;
