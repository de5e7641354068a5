ALTER TABLE members DROP COLUMN orders;
