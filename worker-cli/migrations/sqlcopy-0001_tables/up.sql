-- The SQL copy of committed blocks. Every table is keyed by the chain's id, so several chains can share a database.

CREATE TABLE chains (
    chain TEXT PRIMARY KEY,
    name TEXT NOT NULL
);

-- How far the copy is. Changed in the same transaction as the rows it counts; its row's lock keeps copiers apart.
CREATE TABLE dump_watermarks (
    chain TEXT PRIMARY KEY REFERENCES chains,
    blocks BIGINT NOT NULL,
    transactions BIGINT NOT NULL,
    hash TEXT NOT NULL
);

CREATE TABLE blocks (
    chain TEXT NOT NULL,
    height BIGINT NOT NULL,
    hash TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    merkle_root TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    producer TEXT NOT NULL,
    transactions INT NOT NULL,
    PRIMARY KEY (chain, height)
);

-- `key` and `value` where the bytes are text that PostgreSQL can hold, `value_json` where that text is JSON that it can.
CREATE TABLE transactions (
    chain TEXT NOT NULL,
    height BIGINT NOT NULL,
    index INT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    sender TEXT NOT NULL,
    nonce NUMERIC(20) NOT NULL,
    key TEXT,
    key_bytes BYTEA,
    value TEXT,
    value_bytes BYTEA,
    value_json JSONB,
    recipient TEXT,
    amount NUMERIC(20),
    role TEXT,
    PRIMARY KEY (chain, height, index)
);
CREATE INDEX transactions_by_id ON transactions (id);

-- The current value of each key, and where it was set.
CREATE TABLE key_values (
    chain TEXT NOT NULL,
    key_bytes BYTEA NOT NULL,
    key TEXT,
    value TEXT,
    value_bytes BYTEA NOT NULL,
    value_json JSONB,
    height BIGINT NOT NULL,
    index INT NOT NULL,
    PRIMARY KEY (chain, key_bytes)
);

-- `balance` is what the next block may spend; `releasing` was unstaked and is not free yet.
CREATE TABLE wallets (
    chain TEXT NOT NULL,
    address TEXT NOT NULL,
    balance NUMERIC(20) NOT NULL,
    stake NUMERIC(20) NOT NULL,
    releasing NUMERIC(20) NOT NULL,
    PRIMARY KEY (chain, address)
);

-- What `releasing` is made of: free in blocks from `free_from` on.
CREATE TABLE wallet_releases (
    chain TEXT NOT NULL,
    free_from BIGINT NOT NULL,
    address TEXT NOT NULL,
    amount NUMERIC(20) NOT NULL,
    PRIMARY KEY (chain, free_from, address)
);

CREATE VIEW key_value_history AS
    SELECT t.chain, t.key, t.value, t.value_json, t.key_bytes, t.value_bytes, t.height, t.index, t.id, t.sender, b.time
    FROM transactions t
    JOIN blocks b ON b.chain = t.chain AND b.height = t.height
    WHERE t.type = 'put';

CREATE VIEW value_movements AS
    SELECT t.chain, t.height, t.index, t.id, t.type, t.sender, t.recipient, t.amount, t.value AS memo, b.time
    FROM transactions t
    JOIN blocks b ON b.chain = t.chain AND b.height = t.height
    WHERE t.amount IS NOT NULL;
