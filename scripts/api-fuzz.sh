#!/bin/sh
# Holds the API against its own description: starts a rollcall with a database of its own, validates /openapi.json as
# OpenAPI 3.1, and lets schemathesis send more than 10,000 requests, sound and unsound, to all operations. Fails when
# an answer is not as described, or a 5xx, and when the server is not well afterwards. Arguments go to schemathesis:
#
#   scripts/api-fuzz.sh --seed 7
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
least=10000
tools=target/api-fuzz
work=target/tmp/api-fuzz
log=$work/server.log
report=$work/report.json

fail() {
    echo "api-fuzz: $*" >&2
    exit 1
}

# The seed is chosen here, so that it can be told before anything can go wrong.
seed=""
previous=""
for argument in "$@"; do
    [ "$previous" != --seed ] || seed=$argument
    case $argument in --seed=*) seed=${argument#--seed=} ;; esac
    previous=$argument
done
if [ -z "$seed" ]; then
    seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    set -- "$@" --seed "$seed"
fi

command -v python3 >/dev/null 2>&1 || fail "python3 is missing: please install it (3.10 or newer, with its venv)"
if ! cmp -s scripts/api-fuzz/requirements.txt "$tools/installed.txt"; then
    echo "installing schemathesis and openapi-spec-validator into $tools"
    rm -rf "$tools"
    python3 -m venv "$tools" ||
        fail "python3 cannot make a virtualenv: please install its venv (apt-get install python3-venv)"
    "$tools/bin/pip" install --quiet --disable-pip-version-check -r scripts/api-fuzz/requirements.txt ||
        fail "the tools could not be installed; a network is needed the first time"
    cp scripts/api-fuzz/requirements.txt "$tools/installed.txt"
fi

"$cargo" build --locked
rm -rf "$work"
mkdir -p "$work"

# Nobody's settings but these. The targets of what is registered are made up, so nobody asks them: not in turn, nor when
# a request wants it now, which would wait ten seconds for each address that does not say no.
echo "starting rollcall; its log: $log"
: >"$log" # it is read before the server may have begun it
env -u DATABASE_URL -u ROLLCALL_CONFIG ROLLCALL_LISTEN=127.0.0.1:0 ROLLCALL_DATA_DIR="$PWD/$work/data" \
    ROLLCALL_AUTH= ROLLCALL_CHECKER=off ROLLCALL_CHECK_DENY=0.0.0.0/0,::/0 \
    ROLLCALL_CHECK_SCRIPTS="$PWD/$work/data" ROLLCALL_LOG=info ROLLCALL_LOG_FORMAT=json \
    target/debug/rollcall serve >"$log" 2>&1 </dev/null &
server=$!
trap 'kill "$server" 2>/dev/null && wait "$server" || true' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Asks the server with nothing but what is needed anyway.
get() {
    "$tools/bin/python" -c '
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())' "$url$1"
}

url=""
for _ in $(seq 240); do
    kill -0 "$server" 2>/dev/null || { cat "$log" >&2; fail "rollcall ended instead of starting"; }
    [ -n "$url" ] || url=$(sed -n 's/.*"message":"listening","address":"\([^"]*\)".*/http:\/\/\1/p' "$log")
    [ -z "$url" ] || ! get /health/ready >/dev/null 2>&1 || break
    sleep 0.5
done
get /health/ready >/dev/null 2>&1 || { cat "$log" >&2; fail "rollcall was not ready within two minutes"; }

get /openapi.json >"$work/openapi.json"
"$tools/bin/openapi-spec-validator" --schema 3.1 "$work/openapi.json" || fail "/openapi.json is no valid OpenAPI 3.1"

echo "seed $seed; to repeat: make api-fuzz FUZZ=\"--seed $seed\""
failed=""
HYPOTHESIS_STORAGE_DIRECTORY=$work/hypothesis "$tools/bin/schemathesis" --config-file scripts/api-fuzz/schemathesis.toml run "$work/openapi.json" \
    --url "$url" --report json --report-json-path "$report" "$@" || failed="schemathesis found what is told above"

get /health/ready?store=required >/dev/null || failed="the server is not well afterwards"
get /metrics >"$work/metrics.txt" || failed="the server is not well afterwards"
if grep -E '^http_request_duration_seconds_count\{.*status="(5..|422)"' "$work/metrics.txt"; then
    failed="the server's metrics count answers with the statuses above"
fi
trap - EXIT
kill -TERM "$server"
wait "$server" || failed="the server ended with $? after SIGTERM"
if grep -E '"level":"ERROR"|"status":5|panic' "$log"; then
    failed="the server's log has the lines above"
fi

"$tools/bin/python" - "$report" "$work/openapi.json" "$least" <<'EOF' || failed="${failed:-too few cases or operations}"
import json, sys
report, document, least = json.load(open(sys.argv[1])), json.load(open(sys.argv[2])), int(sys.argv[3])
cases, tested = report["test_cases"], report["operations"]["tested"]
described = sum("operationId" in operation for path in document["paths"].values() for operation in path.values())
print(f"{cases['generated']} cases (at least {least}), {tested} of {described} operations, "
      f"{cases['unique_failures']} failures, {report['running_time']:.0f} s, seed {report['seed']}")
sys.exit(cases["generated"] < least or tested < described)
EOF
[ -z "$failed" ] || fail "$failed; to repeat: make api-fuzz FUZZ=\"--seed $seed\""
