ALTER TABLE members DROP COLUMN version;
DROP TABLE fork_wishes;
DROP TABLE figures;
DROP TABLE terms;
DROP TABLE join_tokens;
