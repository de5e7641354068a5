CREATE TABLE orders (
  chain TEXT NOT NULL,
  nonce BIGINT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (chain, nonce)
);
