#!/usr/bin/env bash
# All measurements of docs/measurements.md and docs/scaling.md; `--quick` measures less.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec target/release/bench "$@"
