#!/bin/sh
# Runs a command beside a throw-away PostgreSQL, whose URL is in DATABASE_URL, and removes it afterwards.
#
#   scripts/with-postgres.sh cargo test
#
# It listens on a Unix socket alone, so it meets no other server and no other run of itself. It does not wait
# for the disk: a crash would lose it, and so it is for nothing that should be kept.
set -eu

[ $# -gt 0 ] || { echo "usage: $0 command…" >&2; exit 2; }
bin=$("$(dirname "$0")/pg-bin.sh") || { echo "no PostgreSQL found: make install" >&2; exit 1; }

# In /tmp whatever TMPDIR says: the path of a socket is limited to 107 bytes, and another user must reach it.
folder=$(mktemp -d /tmp/rollcall-pg.XXXXXX)

# PostgreSQL refuses to run as root.
if [ "$(id -u)" -eq 0 ]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    chown "$user" "$folder"
    as_user() { (cd "$folder" && exec setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$@"); }
else
    as_user() { "$@"; }
fi

stop() {
    status=$?
    trap - EXIT
    [ ! -f "$folder/data/postmaster.pid" ] || as_user "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null || true
    rm -rf "$folder"
    exit "$status"
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if ! {
    as_user "$bin/initdb" -D "$folder/data" -U rollcall --auth=trust -E UTF8 --locale=C --no-sync &&
        as_user "$bin/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w -t 60 \
            -o "-c listen_addresses='' -k $folder -F -c max_connections=300" start &&
        "$bin/psql" -X -q "postgres://rollcall@/postgres?host=$folder" -c 'CREATE DATABASE rollcall'
} >"$folder/start.log" 2>&1; then
    cat "$folder"/*.log >&2
    exit 1
fi

# The socket's folder stands for the host, with its slashes encoded.
DATABASE_URL="postgres://rollcall@$(echo "$folder" | sed 's|/|%2F|g')/rollcall"
export DATABASE_URL
"$@"
