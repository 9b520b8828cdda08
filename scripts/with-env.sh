#!/bin/sh
# Runs a command with the settings of .env, where there is one. What is set already stays as it is.
set -eu
file="$(dirname "$0")/../.env"

if [ -f "$file" ]; then
    # Read and not sourced: a file of settings is not a program.
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        '' | '#'*) continue ;;
        *=*) ;;
        *)
            echo ".env: not NAME=value: $line" >&2
            exit 2
            ;;
        esac
        name=${line%%=*}
        value=${line#*=}
        case $name in
        '' | [0-9]* | *[!A-Za-z0-9_]*)
            echo ".env: not a name: $name" >&2
            exit 2
            ;;
        esac
        case $value in
        \"*\") value=${value#\"} value=${value%\"} ;;
        \'*\') value=${value#\'} value=${value%\'} ;;
        esac
        eval "given=\${$name+yes}"
        [ -n "$given" ] || export "$name=$value"
    done <"$file"
fi
exec "$@"
