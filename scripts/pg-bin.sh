#!/bin/sh
# Prints the folder of the newest PostgreSQL server binaries (14 or newer), or fails when there are none.
set -eu

oldest=14

usable() {
    [ -x "$1/initdb" ] && [ -x "$1/postgres" ] && [ -x "$1/pg_ctl" ] || return 1
    major=$("$1/postgres" --version | sed -n 's/^[^0-9]*\([0-9][0-9]*\).*/\1/p')
    [ -n "$major" ] && [ "$major" -ge "$oldest" ]
}

if [ -n "${ROLLCALL_PG_BIN:-}" ]; then
    usable "$ROLLCALL_PG_BIN" && echo "$ROLLCALL_PG_BIN" && exit 0
    echo "ROLLCALL_PG_BIN is $ROLLCALL_PG_BIN, but PostgreSQL $oldest or newer is not there" >&2
    exit 1
fi

candidates=$(
    pg_config --bindir 2>/dev/null || true
    # The highest version first.
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin \
        /usr/local/opt/postgresql*/bin /home/linuxbrew/.linuxbrew/opt/postgresql*/bin /usr/local/pgsql/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin; do
        version=$(echo "$folder" | sed 's/[^0-9]*\([0-9]*\).*/\1/')
        echo "${version:-0} $folder"
    done | sort -rn | sed 's/^[0-9]* //'
    postgres=$(command -v postgres || true)
    [ -z "$postgres" ] || dirname "$postgres"
)

IFS='
'
for folder in $candidates; do
    if usable "$folder"; then
        echo "$folder"
        exit 0
    fi
done
exit 1
