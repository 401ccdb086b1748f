#!/usr/bin/env bash
# Runs every test and closes with one line for all of cargo's: `N passed, N failed, N skipped`.
#
#   scripts/run_tests.sh [options of cargo test]
#
# Ignored tests count as skipped, and so do tests that said `skipped: NAME (why)` and returned.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

# Documentation tests are run from a folder of their own, where the relative path to libtorch leads nowhere.
LD_LIBRARY_PATH=$PWD/.libtorch/lib:$PWD/.mpi/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
    cargo test --doc --no-fail-fast "$@" 2>&1 | tee -a "$log" || failed=1
cargo test --lib --bins --tests --examples --no-fail-fast "$@" -- --show-output 2>&1 | tee -a "$log" || failed=1

awk -v seconds="$SECONDS" '
    /^skipped: / { skips[$0] = 1 }
    /^test result: / { passed += $4; failed += $6; ignored += $8 }
    END {
        for (line in skips) { print line; skipped++ }
        printf "tests took %d s\n", seconds
        printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, ignored + skipped
    }' "$log"
exit "$failed"
