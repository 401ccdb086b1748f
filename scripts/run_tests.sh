#!/usr/bin/env bash
# Runs all tests. The last line is the total: `N passed, N failed, N skipped`.
#
#   scripts/run_tests.sh [options of cargo test]
#
# Cargo runs one test program after the other, so the cores are idle while one waits: for Slurm, for a timeout, for the end
# of a process. This script runs the programs that mostly wait concurrently with the others, and prints their output at the
# end. Ignored tests count as skipped, and so do tests that print `skipped: NAME (why)` and return.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Sources of the test programs that mostly wait, and the number of their tests that run concurrently.
waiting='/tests/(chaos|cores|doctor|lift_run|liveness|process_groups|run_folders|signals|slurm|stuck_steps|troubles)\.rs'
waiting_threads=3

logs=$(mktemp -d)
background=
trap '[[ -z $background ]] || kill "$background" 2> /dev/null; rm -rf "$logs"' EXIT
export LD_LIBRARY_PATH=$PWD/.libtorch/lib:$PWD/.mpi/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
failed=0

# Cargo runs documentation tests in another folder, from which the relative path to libtorch is wrong.
cargo test --doc --no-fail-fast "$@" 2>&1 | tee "$logs/doc" || failed=1

# Lines of `manifest source program`.
cargo test --no-run --message-format=json-render-diagnostics --lib --bins --tests --examples "$@" |
    sed -n '/"profile":{[^}]*"test":true}/s/.*"manifest_path":"\([^"]*\)".*"src_path":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2 \3/p' \
        > "$logs/programs"

# Runs the programs from standard input, each in the folder of its package, like cargo.
run_programs() { # threads
    local manifest source program code=0
    while read -r manifest source program; do
        echo "     Running ${source#"$PWD/"}"
        (cd "${manifest%/*}" && "$program" --test-threads="$1" --show-output < /dev/null 2>&1) || code=1
    done
    return "$code"
}

grep -E " [^ ]*$waiting " "$logs/programs" > "$logs/waiting_programs" || true
grep -vxFf "$logs/waiting_programs" "$logs/programs" > "$logs/others" || true
run_programs "$waiting_threads" < "$logs/waiting_programs" > "$logs/waiting" &
background=$!
run_programs "$(nproc)" < "$logs/others" | tee "$logs/running" || failed=1
wait "$background" || failed=1
background=
cat "$logs/waiting"

awk -v seconds="$SECONDS" '
    /^skipped: / { skips[$0] = 1 }
    /^test result: / { passed += $4; failed += $6; ignored += $8 }
    END {
        for (line in skips) { print line; skipped++ }
        printf "tests took %d s\n", seconds
        printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, ignored + skipped
    }' "$logs/doc" "$logs/running" "$logs/waiting"
exit "$failed"
