#!/bin/sh
# Installs what is missing to build and run rollcall: a C compiler, and PostgreSQL's server binaries unless
# DATABASE_URL names a database. Options:
#   --check          only say what is missing, and fail if anything is
#   --with-server    PostgreSQL's server whatever DATABASE_URL says: tests start servers of their own
set -eu
cd "$(dirname "$0")/.."

check=""
server=""
for option in "$@"; do
    case $option in
    --check) check=yes ;;
    --with-server) server=yes ;;
    *) echo "unknown option: $option" >&2; exit 2 ;;
    esac
done
[ -n "${DATABASE_URL:-}" ] || server=yes

missing=""
command -v cc >/dev/null 2>&1 || missing="cc"
if [ -n "$server" ] && ! scripts/pg-bin.sh >/dev/null; then
    missing="$missing postgresql"
fi

if ! command -v "${CARGO:-cargo}" >/dev/null 2>&1; then
    echo "Rust is missing: see https://rustup.rs" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0
if [ -n "$check" ]; then
    echo "missing: $missing"
    exit 1
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing: $missing; please install it (PostgreSQL 14 or newer, its server too)" >&2
    echo "for instance: brew install postgresql, or dnf install gcc postgresql-server" >&2
    exit 1
fi

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1; then
    as_root="sudo"
else
    echo "missing: $missing; please install it as root: apt-get install gcc libc6-dev postgresql" >&2
    exit 1
fi

packages=""
for thing in $missing; do
    case $thing in
    cc) packages="$packages gcc libc6-dev" ;;
    postgresql) packages="$packages postgresql" ;;
    esac
done

case $missing in
*postgresql*)
    # The package would start a server of its own on port 5432, which nobody asked for.
    switch='create_main_cluster = false'
    file=/etc/postgresql-common/createcluster.conf
    if ! grep -qs '^ *create_main_cluster' "$file"; then
        echo "writing \"$switch\" to $file, so that the package starts no server of its own"
        $as_root mkdir -p /etc/postgresql-common
        echo "$switch" | $as_root tee -a "$file" >/dev/null
    fi
    ;;
esac

get() {
    # The packages must neither ask nor replace the file above.
    $as_root env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
        apt-get -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=120 -y "$@"
}

echo "installing:$packages"
# shellcheck disable=SC2086 # a list of names
get install --no-install-recommends $packages ||
    { get update && get install --no-install-recommends $packages; }
