-- Transactions of the coordinator that a member has seen in committed blocks.
ALTER TABLE members ADD COLUMN orders BIGINT NOT NULL DEFAULT 0;
