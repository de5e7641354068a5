#!/usr/bin/env bash
# Wallets, deposits and transfers, as services around a chain use them: three workers, wallets for telephone numbers, blocks
# that come by themselves, and a transfer that cannot be spent twice.
. "$(dirname "$0")/common.sh"

say "a coordinator, and three workers; blocks come by themselves"
start_server --difficulty 8 --block-interval-ms 500
for name in a b c; do worker "$name" register --name "$name" | tail -n 1; done

say "a wallet for a telephone number, its key encrypted; and one without"
echo "correct horse battery staple" >"$place/passphrase"
ada=$(worker a --json wallet create --number "+49 170 1234567" --passphrase-file "$place/passphrase" | field address)
bob=$(worker b --json wallet create --label bob | field address)
worker a wallet list
refused "no wallet" worker b balance "+49 170 1234567"

say "only who may issue can make money: the coordinator's keeper says who"
issuer=$(worker c --json wallet list | field address)
refused "lacks the role issue" worker c deposit --to "$ada" --amount 100
let_issue c "$issuer"
worker c deposit --to "$ada" --amount 100
comes_to a "$ada" confirmed 100

say "100 can be sent once, whichever worker is asked, before and after the next block"
worker a transfer --from "+49 170 1234567" --passphrase-file "$place/passphrase" --to "$bob" --amount 70 --memo "rent"
refused "are needed" worker a transfer --from "$ada" --passphrase-file "$place/passphrase" --to "$bob" --amount 70
comes_to b bob confirmed 70
comes_to c "$ada" confirmed 30
refused "are needed" worker a transfer --from "$ada" --passphrase-file "$place/passphrase" --to "$bob" --amount 31
refused "mistyped" worker b transfer --from bob --to "$(mistyped "$ada")" --amount 1
refused "positive" worker b transfer --from bob --to "$ada" --amount -1
refused "whole base units" worker b transfer --from bob --to "$ada" --amount 0.5

say "what each of them did"
worker b history bob
worker c history "$ada"

say "all replicas are the same"
worker b check_consistency
expect "the sum" $(($(balance c "$ada" confirmed) + $(balance c "$bob" confirmed))) 100
say "done"
