#!/usr/bin/env bash
# Sends jobs in a temporary Slurm cluster a request to save, each at a different moment between its start and its end. Every
# result must be bitwise equal to that of an undisturbed job. Needs root and Debian; prints one line per job.
#
#   scripts/slurm_chaos.sh [jobs]        default: 20
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

jobs=${1:-20}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
LIFT_SLURM_ROUNDS=$jobs cargo test --release --locked -p tests --test slurm -- \
    --exact a_signal_at_any_moment_keeps_the_result --nocapture 2>&1 | tee "$log"

# If no cluster can be started, the test passes without a job.
if grep -q '^skipped:' "$log"; then
    echo "slurm_chaos: no job was run, since no Slurm cluster can be started here (see \`skipped:\` above)" >&2
    exit 1
fi
done=$(grep -c '^round ' "$log" || true)
if ((done != jobs)); then
    echo "slurm_chaos: $done of $jobs jobs are reported above" >&2
    exit 1
fi
