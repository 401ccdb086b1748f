#!/usr/bin/env bash
# The embedded demo on two ranks: four methods, one table, and a report about them. Options are passed to
# `lift-trainer demo`; with `--output DIR` the runs and the report are in DIR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=
arguments=("$@")
for ((i = 0; i < $#; i++)); do
    case ${arguments[i]} in
    -o | --output) output=${arguments[i + 1]-} ;;
    --output=*) output=${arguments[i]#*=} ;;
    esac
done
if [[ -z $output ]]; then
    output=runs/demo
    for ((n = 2; ; n++)); do
        [[ -e $output ]] || break
        output=runs/demo-$n
    done
    set -- --output "$output" "$@"
fi

scripts/mpirun.sh -n 2 target/release/lift-trainer demo "$@"

target/release/lift report "$output"/*/ --output "$output/report.html"
