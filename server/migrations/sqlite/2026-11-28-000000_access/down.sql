DELETE FROM challenges;
ALTER TABLE chains DROP COLUMN made_by;
ALTER TABLE workers DROP COLUMN banned_ms;
