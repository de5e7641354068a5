CREATE TABLE settings (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE challenges (challenge TEXT NOT NULL PRIMARY KEY, expires_ms BIGINT NOT NULL);
CREATE TABLE chains (
  name TEXT NOT NULL PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  spec TEXT NOT NULL,
  term BIGINT NOT NULL,
  leader TEXT,
  leader_since_ms BIGINT NOT NULL,
  final_size BIGINT NOT NULL
);
CREATE TABLE workers (
  id TEXT NOT NULL PRIMARY KEY,
  public_key TEXT UNIQUE,
  name TEXT,
  token_hash TEXT,
  registered_ms BIGINT NOT NULL
);
CREATE TABLE members (
  chain TEXT NOT NULL,
  worker TEXT NOT NULL,
  joined BIGINT NOT NULL,
  addresses TEXT NOT NULL,
  api TEXT,
  last_seen_ms BIGINT NOT NULL,
  height BIGINT NOT NULL,
  head TEXT NOT NULL,
  committed BIGINT NOT NULL,
  PRIMARY KEY (chain, worker)
);
CREATE TABLE checkpoints (
  chain TEXT NOT NULL,
  size BIGINT NOT NULL,
  root TEXT NOT NULL,
  block TEXT NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (chain, size)
);
CREATE TABLE cosignatures (
  chain TEXT NOT NULL,
  size BIGINT NOT NULL,
  public_key TEXT NOT NULL,
  line TEXT NOT NULL,
  PRIMARY KEY (chain, size, public_key)
);
