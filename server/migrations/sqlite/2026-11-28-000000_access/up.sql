-- Since when a worker is banned, where it is.
ALTER TABLE workers ADD COLUMN banned_ms BIGINT;
-- The worker that has made a chain, where one has.
ALTER TABLE chains ADD COLUMN made_by TEXT;
-- From now on those that were used, until they are over; before, those that were out.
DELETE FROM challenges;
