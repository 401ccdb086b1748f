#!/usr/bin/env bash
# Trains the embedded demo for 20 steps on the CPU and on one GPU over NCCL, and compares the losses.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! [ -e /proc/driver/nvidia/version ]; then
    echo "make gpu-check: this machine has no NVIDIA driver; run it on a machine with a GPU" >&2
    exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

train() {
    local name=$1
    shift
    target/release/lift-trainer train --quiet --set train.max_steps=20 "$@" --output "$folder/$name" >/dev/null
    sed -n 's/.*"kind":"step".*"loss":\([^,]*\),.*/\1/p' "$folder/$name/metrics.jsonl" >"$folder/$name.losses"
}

cargo test --release --locked -p nccl-rs --test real_library
train cpu --set train.device=cpu
train gpu --set train.device=cuda --set distributed.backend=nccl
paste "$folder/cpu.losses" "$folder/gpu.losses" | awk '
    { error = ($1 - $2) / $1; if (error < 0) error = -error; if (error > worst) worst = error; steps++ }
    END {
        printf "%d steps, maximum relative difference of the losses on GPU and CPU: %.2e\n", steps, worst
        exit !(steps == 20 && worst < 1e-3)
    }'
