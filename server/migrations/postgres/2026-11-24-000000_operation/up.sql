-- What lets workers in: only hashes of tokens are kept.
CREATE TABLE join_tokens (
  id TEXT NOT NULL PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  label TEXT NOT NULL,
  created_ms BIGINT NOT NULL,
  expires_ms BIGINT,
  uses_left BIGINT,
  used BIGINT NOT NULL,
  revoked_ms BIGINT
);
-- Who led in which term.
CREATE TABLE terms (
  chain TEXT NOT NULL,
  term BIGINT NOT NULL,
  worker TEXT NOT NULL,
  since_ms BIGINT NOT NULL,
  PRIMARY KEY (chain, term)
);
-- What was committed in each minute, as leaders told it.
CREATE TABLE figures (
  chain TEXT NOT NULL,
  minute BIGINT NOT NULL,
  blocks BIGINT NOT NULL,
  transactions BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  work DOUBLE PRECISION NOT NULL,
  checkpoints BIGINT NOT NULL,
  final_ms BIGINT NOT NULL,
  finals BIGINT NOT NULL,
  shares TEXT NOT NULL,
  PRIMARY KEY (chain, minute)
);
-- Forks that an operator has asked for, until a worker has made them.
CREATE TABLE fork_wishes (
  name TEXT NOT NULL PRIMARY KEY,
  chain TEXT NOT NULL,
  height BIGINT NOT NULL,
  asked_ms BIGINT NOT NULL
);
ALTER TABLE members ADD COLUMN version TEXT;
