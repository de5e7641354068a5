DROP TABLE recoveries;
DROP TABLE claims;
ALTER TABLE members DROP COLUMN counts;
