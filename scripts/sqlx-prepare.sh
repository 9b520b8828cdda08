#!/bin/sh
# Writes .sqlx anew: what the compiler must know about the queries to check them without a database.
# DATABASE_URL names an empty database that may be filled: scripts/with-postgres.sh scripts/sqlx-prepare.sh
set -eu
cd "$(dirname "$0")/.."

bin=$(scripts/pg-bin.sh)
for migration in migrations/*.sql; do
    "$bin/psql" -X -q -v ON_ERROR_STOP=1 -1 "$DATABASE_URL" -f "$migration" >/dev/null
done

# Into a new folder, so that no query of yesterday stays; and moved at the end, so that a failure leaves .sqlx.
fresh=$(mktemp -d "$PWD/target/sqlx.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
# The macros run when their file is compiled, so it has to be.
find src tests benches -name '*.rs' -exec touch {} + 2>/dev/null || true
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$fresh "${CARGO:-cargo}" check --locked --all-targets

rm -rf .sqlx
mkdir .sqlx
find "$fresh" -name 'query-*.json' -exec mv {} .sqlx/ \;
echo "$(find .sqlx -type f | wc -l) queries in .sqlx"
