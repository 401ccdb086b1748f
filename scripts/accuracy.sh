#!/usr/bin/env bash
# Compares accuracies with the official figures; docs/fidelity.md lists the parts and their durations.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec target/release/accuracy "$@"
