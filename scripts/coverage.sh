#!/bin/sh
# Runs all tests and says which lines they reached. Fails below 80 % over all, or below 95 % of src/domain:
# everything else rests on that.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
least=80
least_of_domain=95

if ! "$cargo" llvm-cov --version >/dev/null 2>&1; then
    echo "cargo-llvm-cov is missing: installing it"
    "$cargo" install --locked cargo-llvm-cov
fi

# The tools must be of the compiler's own LLVM, else they cannot read its profiles.
major=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
toolchain=$(echo "$(rustc --print sysroot)"/lib/rustlib/*/bin)

find_tool() {
    for candidate in "$toolchain/$1" "/usr/lib/llvm-$major/bin/$1" "$(command -v "$1-$major" || true)" \
        "/opt/homebrew/opt/llvm@$major/bin/$1" "/usr/local/opt/llvm@$major/bin/$1"; do
        if [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
    echo "$1 of LLVM $major is missing: rustup component add llvm-tools, or apt-get install llvm-$major" >&2
    return 1
}

LLVM_COV=${LLVM_COV:-$(find_tool llvm-cov)}
LLVM_PROFDATA=${LLVM_PROFDATA:-$(find_tool llvm-profdata)}
export LLVM_COV LLVM_PROFDATA

"$cargo" llvm-cov --locked --no-report --no-fail-fast
"$cargo" llvm-cov report | tee target/coverage.txt

# Columns 8 and 9: lines, and lines missed.
awk -v least="$least" -v least_of_domain="$least_of_domain" '
    $1 ~ /^(.*src\/)?domain\// { lines += $8; missed += $9 }
    $1 == "TOTAL" { all = $8; all_missed = $9 }
    function judge(name, lines, missed, least,    share) {
        if (lines == 0) { printf "no lines of %s were found\n", name; return 1 }
        share = 100 * (lines - missed) / lines
        printf "%s: %.2f %% of %d lines (at least %d %%)\n", name, share, lines, least
        return share < least
    }
    END {
        low = judge("src/domain", lines, missed, least_of_domain)
        low = judge("all of rollcall", all, all_missed, least) || low
        if (low) print "the coverage is too low"
        exit low
    }
' target/coverage.txt
