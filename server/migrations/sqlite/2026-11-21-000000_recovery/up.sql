ALTER TABLE members ADD COLUMN counts BIGINT NOT NULL DEFAULT 1;
CREATE TABLE claims (
  chain TEXT NOT NULL,
  worker TEXT NOT NULL,
  term BIGINT NOT NULL,
  size BIGINT NOT NULL,
  note TEXT NOT NULL,
  claimed_ms BIGINT NOT NULL,
  PRIMARY KEY (chain, worker)
);
CREATE TABLE recoveries (
  chain TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (chain, at_ms)
);
