# What the examples share: a coordinator and workers as real processes in an empty folder, stopped at the end.
#
# The programs are taken from PATH. Needs nothing but a shell.
set -euo pipefail

place=$(mktemp -d)
unset "${!BLOCK_CHAIN_@}"

finish() {
  code=$?
  set +e
  for folder in "$place"/worker-*; do
    [ -e "$folder/node.json" ] || continue
    pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$folder/node.json")
    block-chain-worker --data-dir "$folder" disconnect >/dev/null 2>&1 || kill "$pid"
  done
  [ -n "${server_pid:-}" ] && kill "$server_pid" 2>/dev/null && wait "$server_pid" 2>/dev/null
  [ "$code" = 0 ] || tail -n 5 "$place"/server.log "$place"/worker-*/node.log >&2
  rm -rf "$place"
  exit "$code"
}
trap finish EXIT

# start_server [flags]: a coordinator on a free port.
start_server() {
  block-chain-server --bind 127.0.0.1:0 --data-dir "$place/server" "$@" >"$place/server.log" 2>&1 &
  server_pid=$!
  for _ in $(seq 100); do
    server_url=$(sed -n 's/^listening on //p' "$place/server.log")
    [ -n "$server_url" ] && return
    sleep 0.1
  done
  fail "the coordinator does not start: $(cat "$place/server.log")"
}

# worker NAME COMMAND…: what a person at that worker types.
worker() {
  local name=$1
  shift
  block-chain-worker --server "$server_url" --data-dir "$place/worker-$name" "$@"
}

# field NAME: the first value of that name in a JSON document.
field() {
  sed -n "s/.*\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" | head -n 1
}

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'NOT AS IT SHOULD BE: %s\n' "$*" >&2; exit 1; }

# expect WHAT IS WANTED
expect() { [ "$2" = "$3" ] || fail "$1 is $2, not $3"; }

# refused WORDS COMMAND…: the command must fail, and say these words.
refused() {
  local words=$1
  shift
  if said=$("$@" 2>&1); then fail "$* was not refused"; fi
  case $said in *"$words"*) printf '%s\n' "$said" ;; *) fail "$* says: $said" ;; esac
}

# mistyped ADDRESS: the address with another last letter.
mistyped() {
  case $1 in *x) printf '%s\n' "${1%?}b" ;; *) printf '%s\n' "${1%?}x" ;; esac
}

# balance NAME WHOSE FIELD
balance() { worker "$1" --json balance "$2" | field "$3"; }

# comes_to NAME WHOSE FIELD VALUE: waits for a block to bring it.
comes_to() {
  for _ in $(seq 300); do
    found=$(balance "$1" "$2" "$3")
    [ "$found" = "$4" ] && return
    sleep 0.1
  done
  fail "the $3 of $2 is $found, not $4"
}

# let_issue NAME ADDRESS: the coordinator's keeper lets an address make money; waits until it may.
let_issue() {
  block-chain-server grant --data-dir "$place/server" --to "$2" --role issue
  for _ in $(seq 300); do
    worker "$1" roles "$2" | grep -q issue && return
    sleep 0.1
  done
  fail "$2 may not issue"
}
