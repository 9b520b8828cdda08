#!/bin/sh
# Checks the dependencies: licences, where they come from, banned ones, and the known security advisories where
# their database can be reached.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

if ! "$cargo" deny --version >/dev/null 2>&1; then
    echo "cargo-deny is missing: installing it"
    "$cargo" install --locked cargo-deny
fi

"$cargo" deny --locked check licenses sources bans
if "$cargo" deny --locked fetch db >/dev/null 2>&1; then
    "$cargo" deny --locked check advisories
else
    echo "NOT CHECKED: the advisories, because their database (github.com/RustSec/advisory-db) cannot be reached"
fi
