#!/usr/bin/env bash
# Accuracy beside the official figures; docs/fidelity.md says what and how long.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec target/release/accuracy "$@"
