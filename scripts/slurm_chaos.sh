#!/usr/bin/env bash
# Asks jobs in a throw-away Slurm cluster to save, each at another moment between its start and its end, and compares
# every result to the bit with that of a job that nothing disturbed. Needs root and Debian; prints a line for each job.
#
#   scripts/slurm_chaos.sh [jobs]        20 without a number
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

jobs=${1:-20}
said=$(mktemp)
trap 'rm -f "$said"' EXIT
LIFT_SLURM_ROUNDS=$jobs cargo test --release --locked -p tests --test slurm -- \
    --exact a_signal_at_any_moment_changes_nothing_in_the_result --nocapture 2>&1 | tee "$said"

# Where no cluster can be started, the test passes without a job.
if grep -q '^skipped:' "$said"; then
    echo "slurm_chaos: no job was run, since no Slurm cluster can be started here (see \`skipped:\` above)" >&2
    exit 1
fi
done=$(grep -c '^round ' "$said" || true)
if ((done != jobs)); then
    echo "slurm_chaos: $done of $jobs jobs are told of above" >&2
    exit 1
fi
