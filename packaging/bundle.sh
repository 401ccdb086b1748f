#!/bin/sh
# Starts the program of this name with the torch of a Python: the one in PYTHON, or python3 on PATH.
name=${0##*/}
folder=$(dirname "$(readlink -f "$0")")
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "error: \`$name\` needs a Python with torch 2.11, and there is no \`$python\`" >&2
    echo "hint: name it: \`PYTHON=/path/to/python $0 ...\`" >&2
    exit 2
fi
exec "$python" "$folder/../lift_rs/start.py" "$folder/$name" "$@"
