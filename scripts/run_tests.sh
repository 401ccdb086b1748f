#!/usr/bin/env bash
# Runs every test and closes with one line for all of them: `N passed, N failed, N skipped`.
#
#   scripts/run_tests.sh [options of cargo test]
#
# Cargo would run one test program after the other, and the cores would idle wherever one waits: for Slurm, for a time-out,
# for the end of a signalled process. So those that mostly wait run beside the others; what they print comes at the end.
# Ignored tests count as skipped, and so do tests that said `skipped: NAME (why)` and returned.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Sources of the test programs that mostly wait, and how many of their tests run at the same time.
waiting='/tests/(chaos|cores|doctor|lift_run|liveness|process_groups|run_folders|signals|slurm|stuck_steps|troubles)\.rs'
waiting_threads=3

logs=$(mktemp -d)
beside=
trap '[[ -z $beside ]] || kill "$beside" 2> /dev/null; rm -rf "$logs"' EXIT
export LD_LIBRARY_PATH=$PWD/.libtorch/lib:$PWD/.mpi/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
failed=0

# Documentation tests are run from a folder of their own, where the relative path to libtorch leads nowhere.
cargo test --doc --no-fail-fast "$@" 2>&1 | tee "$logs/doc" || failed=1

# Lines of `manifest source program`.
cargo test --no-run --message-format=json-render-diagnostics --lib --bins --tests --examples "$@" |
    sed -n '/"profile":{[^}]*"test":true}/s/.*"manifest_path":"\([^"]*\)".*"src_path":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2 \3/p' \
        > "$logs/programs"

# Runs the programs of its input, each in the folder of its package, as cargo does.
run_programs() { # threads
    local manifest source program code=0
    while read -r manifest source program; do
        echo "     Running ${source#"$PWD/"}"
        (cd "${manifest%/*}" && "$program" --test-threads="$1" --show-output < /dev/null 2>&1) || code=1
    done
    return "$code"
}

grep -E " [^ ]*$waiting " "$logs/programs" > "$logs/those_that_wait" || true
grep -vxFf "$logs/those_that_wait" "$logs/programs" > "$logs/others" || true
run_programs "$waiting_threads" < "$logs/those_that_wait" > "$logs/waiting" &
beside=$!
run_programs "$(nproc)" < "$logs/others" | tee "$logs/running" || failed=1
wait "$beside" || failed=1
beside=
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
