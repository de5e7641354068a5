DROP VIEW value_movements;
DROP VIEW key_value_history;
DROP TABLE wallet_releases, wallets, key_values, transactions, blocks, dump_watermarks, chains;
