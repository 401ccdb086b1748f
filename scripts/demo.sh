#!/usr/bin/env bash
# The embedded demo on two ranks: four methods, one table. Further options are passed to `lift-trainer demo`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec scripts/mpirun.sh -n 2 target/release/lift-trainer demo "$@"
