#!/usr/bin/env bash
# Peers with a tracker and wallets: who is there, mining pays coins, coins are sent, and nobody outside is answered.
. "$(dirname "$0")/common.sh"

say "a tracker with a token for those who may take part, and three peers"
start_server --join-token let-me-in --difficulty 8 --block-interval-ms 0 --reward 50
refused "join token" worker a register --name a
for name in a b c; do worker "$name" register --name "$name" --token let-me-in >/dev/null; done
for _ in $(seq 100); do
  [ "$(worker a --json peers | grep -c '"connected": true')" = 2 ] && break
  sleep 0.1
done
worker a peers

say "each peer has a wallet; one gets a second one, under a passphrase"
printf 'correct horse\n' >"$place/passphrase"
worker b wallet create --label savings --passphrase-file "$place/passphrase"
worker b wallet list
a=$(worker a --json wallet list | field address)
b=$(worker b --json balance savings | field address)

say "mining pays coins"
worker a mine_block
comes_to b "$a" confirmed 50
refused "own address" worker a transfer --to "$a" --amount 1

say "coins are sent to an address, and wait for a block in every peer's list"
worker a transfer --to "$b" --amount 20 --memo "for the harvest"
for _ in $(seq 100); do [ "$(worker c --json mempool | field count)" = 1 ] && break; sleep 0.1; done
worker c mempool
expect "what waits for b" "$(balance c "$b" pending)" 20
refused "are needed" worker a transfer --to "$b" --amount 31
refused "checksum" worker a transfer --to "$(mistyped "$b")" --amount 1
worker c mine_block
comes_to a "$b" confirmed 20
comes_to b "$a" confirmed 30
worker b history savings

say "a locked wallet sends with its passphrase alone"
refused "passphrase" worker b transfer --from savings --to "$a" --amount 5
worker b transfer --from savings --to "$a" --amount 5 --passphrase-file "$place/passphrase"
worker b mine_block
comes_to c "$a" confirmed 35

say "a wallet moves to another peer, as it rests"
worker b wallet export savings --out "$place/savings.json"
worker c wallet import "$place/savings.json"
expect "the balance there" "$(balance c savings confirmed)" 15

say "all have the same chain, and the reward of every block was paid once"
worker a check_consistency
expect "the height" "$(worker a --json status | field height)" 3
say "done"
