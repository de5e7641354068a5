#!/usr/bin/env bash
# A chain of stake: it begins without any, two workers stake, and from the epoch after the next on they alone are drawn.
. "$(dirname "$0")/common.sh"

say "a chain of stake with slots of 200 ms, and three workers"
start_server --proof stake --block-interval-ms 200
for name in a b c; do worker "$name" register --name "$name" >/dev/null; done
a=$(worker a --json wallet list | field address)
b=$(worker b --json wallet list | field address)

say "money for two of them"
let_issue a "$a"
worker a deposit --to "$a" --amount 3000
worker a deposit --to "$b" --amount 1000
comes_to b "$b" confirmed 1000
refused "are needed" worker b stake --amount 1002000
worker a stake --amount 3000
worker b stake --amount 1000
comes_to b "$b" stake 1000

say "blocks, until the stakes count: an epoch has 32"
while [ "$(worker a --json status | field height)" -lt 65 ]; do
  worker a --json mine_block >/dev/null 2>&1 || worker b --json mine_block >/dev/null 2>&1
done

say "who has stake is drawn, by its share; who has none makes no block"
worker a status
worker b mine_block
refused "no stake" worker c mine_block
worker c check_consistency

say "what is unstaked is free after some blocks, and no unit is lost"
worker b unstake --amount 400
comes_to c "$b" stake 600
worker b balance
refused "are needed" worker b unstake --amount 601
say "done"
