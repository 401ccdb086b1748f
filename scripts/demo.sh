#!/usr/bin/env bash
# The built-in demonstration on two ranks, compared with one rank. More options go to lift-trainer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec scripts/mpirun.sh -n 2 target/release/lift-trainer demo --compare "$@"
