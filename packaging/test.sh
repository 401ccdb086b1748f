#!/usr/bin/env bash
# Tests of the start script, and of wheel and bundle in dist/ (`make bundle`), with a table of seconds and megabytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
[[ -x $python ]] || python=python3
exec "$python" -m unittest discover --start-directory packaging --verbose
