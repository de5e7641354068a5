-- What each chain is, who holds which role, and transfers by name.

ALTER TABLE chains
    ADD COLUMN proof TEXT,
    ADD COLUMN block_interval_ms NUMERIC(20),
    ADD COLUMN reward NUMERIC(20),
    ADD COLUMN decimals INT,
    ADD COLUMN open_roles TEXT[],
    -- Of a fork: the chain and the block whose state it began with. What it inherited stands at height 0.
    ADD COLUMN parent_chain TEXT,
    ADD COLUMN parent_height BIGINT;

-- Roles held now, besides those that everybody has (`chains.open_roles`).
CREATE TABLE roles (
    chain TEXT NOT NULL,
    address TEXT NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (chain, address, role)
);
-- As far as earlier copies have come. What a chain began with is added when it is copied next.
INSERT INTO roles
    SELECT chain, recipient, role FROM (
        SELECT DISTINCT ON (chain, recipient, role) chain, recipient, role, type
        FROM transactions
        WHERE type IN ('grant', 'revoke')
        ORDER BY chain, recipient, role, height DESC, index DESC
    ) AS last
    WHERE type = 'grant';

CREATE VIEW transfers AS
    SELECT t.chain, t.height, t.index, t.id, t.sender, t.recipient, t.amount, t.value AS memo, b.time
    FROM transactions t
    JOIN blocks b ON b.chain = t.chain AND b.height = t.height
    WHERE t.type = 'transfer';
