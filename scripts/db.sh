#!/bin/sh
# Creates, or drops and creates, the database that DATABASE_URL names.
set -eu

action=${1:-}
[ -n "${DATABASE_URL:-}" ] || { echo "set DATABASE_URL to the database that is meant" >&2; exit 2; }
command -v psql >/dev/null 2>&1 || { echo "psql is missing: install PostgreSQL's client" >&2; exit 1; }

# scheme://server/name?parameters
case $DATABASE_URL in
*\?*) parameters="?${DATABASE_URL#*\?}" ;;
*) parameters="" ;;
esac
address=${DATABASE_URL%%\?*}
case $address in
postgres://*/*|postgresql://*/*) ;;
*) echo "DATABASE_URL is not of the form postgres://user@host/database" >&2; exit 2 ;;
esac
name=${address##*/}
case $name in
'' | *[!A-Za-z0-9_-]*)
    echo "the database of DATABASE_URL must have a name of letters, digits, _ and -" >&2
    exit 2
    ;;
postgres | template0 | template1)
    echo "$name belongs to the server itself: give rollcall a database of its own" >&2
    exit 2
    ;;
esac

# A database cannot be made or dropped from inside itself.
ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 "${address%/*}/postgres$parameters" -c "$1"; }

case $action in
create) ;;
reset)
    if [ "${CONFIRM:-}" != yes ]; then
        echo "this drops the database $name with all that is in it; if that is meant: make db-reset CONFIRM=yes" >&2
        exit 2
    fi
    ask "DROP DATABASE IF EXISTS \"$name\" WITH (FORCE)"
    echo "dropped the database $name"
    ;;
*)
    echo "usage: $0 create|reset" >&2
    exit 2
    ;;
esac

if [ "$(ask "SELECT 1 FROM pg_database WHERE datname = '$name'")" = 1 ]; then
    echo "the database $name exists already"
else
    ask "CREATE DATABASE \"$name\""
    echo "created the database $name; rollcall makes its tables when it starts"
fi
