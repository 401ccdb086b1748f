#!/usr/bin/env bash
# Asks jobs in a throw-away Slurm cluster to save, each at another moment between its start and its end, and compares
# every result to the bit with that of a job that nothing disturbed. Needs root and Debian; prints a line for each job.
#
#   scripts/slurm_chaos.sh [jobs]        20 without a number
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

LIFT_SLURM_ROUNDS=${1:-20} cargo test --release --locked -p tests --test slurm -- \
    --exact a_signal_at_any_moment_changes_nothing_in_the_result --nocapture
