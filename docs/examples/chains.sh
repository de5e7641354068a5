#!/usr/bin/env bash
# Several chains for several purposes: JSON on each, a fork, export and import, and what a restart and a dead peer change.
. "$(dirname "$0")/common.sh"

say "a network, and three workers"
start_server --difficulty 8 --block-interval-ms 500
for name in a b c; do worker "$name" register --name "$name" >/dev/null; done

# committed NAME CHAIN BLOCKS: waits until so many blocks are final there.
committed() {
  for _ in $(seq 300); do
    found=$(worker "$1" --chain "$2" --json status | field final_size)
    [ "$found" -ge "$3" ] && return
    sleep 0.1
  done
  fail "chain $2 has $found final blocks, not $3"
}

# comes NAME CHAIN KEY: waits for a record.
comes() {
  for _ in $(seq 300); do
    worker "$1" --chain "$2" get --key "$3" >/dev/null 2>&1 && return
    sleep 0.1
  done
  fail "record $3 does not come to $1"
}

# value NAME CHAIN KEY
value() { worker "$1" --chain "$2" get --key "$3"; }

say "one chain for audit, whose leader signs, and one of work for orders"
worker a chain create --name audit --proof authority --interval 0.2
worker a chain create --name orders --proof work --difficulty 6 --interval 0.5 --reward 3
worker b chain join audit
worker c chain join audit
worker b chain join orders
worker c chain list
refused "another spec" worker b chain create --name audit --proof work
refused "proof of work alone" worker b chain create --name bad --proof stake --difficulty 9
refused "SPEC-6" worker b chain create --name bad --proof stake --interval 0
refused "no chain" worker b chain join nothing
refused "no chain" worker c --chain orders status
refused "1 to 64 characters" worker b chain create --name "Not a name"

say "any JSON, on the chain that it is for"
worker b --chain audit add_transaction --key door/1 --value '{"opened":"09:00","by":"ada"}'
worker a --chain orders add_transaction --key order/7 --value '{"items":[1,2,3]}'
committed c audit 2
committed b orders 2
value c audit door/1
refused "no record" value a orders door/1
refused "no record" value a main order/7

say "a chain's stats, and the whole of it as JSON"
worker c --chain audit --json get_chain | head -n 1
worker c --chain audit status

say "a fork: it begins with the state of a final block, and goes its own way"
worker b --chain audit add_transaction --key door/1 --value '{"opened":"10:00","by":"bob"}' >/dev/null
committed a audit 3
refused "is not final" worker a chain fork --from audit --at 1000 --name trial
worker a chain fork --from audit --at 1 --name trial --proof work --difficulty 4 --interval 0.2
value a trial door/1
expect "the audited value" "$(value a audit door/1)" '{"opened":"10:00","by":"bob"}'
expect "the forked value" "$(value a trial door/1)" '{"opened":"09:00","by":"ada"}'
worker a --chain trial add_transaction --key door/1 --value '{"opened":"never"}' >/dev/null
committed a trial 2
expect "the forked value" "$(value a trial door/1)" '{"opened":"never"}'
expect "the audited value" "$(value a audit door/1)" '{"opened":"10:00","by":"bob"}'
say "a worker that joins the fork gets its parent too"
worker c chain join trial
committed c trial 2
worker c --chain trial get --key door/1 --history
worker c --chain trial check_consistency
say "a receipt of the parent still proves what the fork began with"
id=$(worker a --chain audit --json get --key door/1 --history | grep transaction_id | tail -1 | cut -d'"' -f4)
worker a --chain audit receipt "$id" --out "$place/door.receipt"
worker c verify "$place/door.receipt"

say "records come from files, once, and go to files"
for n in $(seq 300); do printf '{"key":"stock/%d","value":{"left":%d}}\n' "$n" "$n"; done >"$place/stock.ndjson"
printf 'id,name,city\n1,Ada,London\n2,Bob,"Paris, Nord"\n' >"$place/people.csv"
worker b --chain orders import "$place/stock.ndjson"
worker b --chain orders import "$place/people.csv" --key-column id
worker b --chain orders import "$place/stock.ndjson"
comes a orders stock/300
comes a orders 2
value a orders stock/300
value a orders 2
expect "the times that stock/1 was set" "$(worker a --chain orders --json get --key stock/1 --history | grep -c transaction_id)" 2
worker a --chain orders export --records --out "$place/all.ndjson"
expect "the records" "$(wc -l <"$place/all.ndjson")" 303
worker a --chain audit import "$place/all.ndjson"
worker a --chain orders export --tiles "$place/log"
find "$place/log" -type f | sed "s|$place/||" | sort

say "a node that starts again takes up all its chains; a dead peer stops nobody"
worker c disconnect
kill -9 "$(worker b --json status | field pid)"
worker b chain list
worker b --chain audit add_transaction --key door/2 --value '{}' >/dev/null
comes a audit door/2
value a audit door/2
worker b chain leave orders
refused "no chain" worker b --chain orders status
worker b chain join orders
worker b --chain orders check_consistency
say "done"
