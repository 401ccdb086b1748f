#!/bin/bash
# A fake trainer: one rank that counts steps in lockstep with the other ranks, writes the files of a run folder, saves and
# ends on request, and fails on request. It supports `train --output DIR [--resume auto|never]`, and records all arguments
# in DIR/starts.
#
#   FAKE_STEPS         steps of the run                                                   [20]
#   FAKE_STEP_SECONDS  duration of a step                                                 [0.05]
#   FAKE_SAVE_EVERY    steps between checkpoints                                          [1]
#   FAKE_FAIL          `RANK STEP HOW STARTS`: in the first STARTS starts, the rank fails before this step of the start. HOW is an
#                      exit code, or a signal that it sends to itself
#   FAKE_REFUSE        exits with code 2 before it writes anything
#   FAKE_DEAF          ignores requests to stop
set -u
rank=${PMIX_RANK:-0}
size=${OMPI_COMM_WORLD_SIZE:-${SLURM_STEP_NUM_TASKS:-1}}
count=${LIFT_RESTART_COUNT:-0}
run='' resume=never
arguments=("$@")
while (($#)); do
    case $1 in
        --output) run=$2; shift ;;
        --resume) resume=$2; shift ;;
    esac
    shift
done
((count > 0)) && resume=auto
[[ -z ${FAKE_REFUSE:-} ]] || { echo "error: the fake refuses its input" >&2; exit 2; }
[[ -n $run ]] || { echo "error: the fake needs --output" >&2; exit 2; }
# A signal to all processes of a rank also ends its child commands, so this repeats a command until it succeeds.
retry() { until "$@" 2> /dev/null; do :; done; }
now() { local TZ=UTC micro=${EPOCHREALTIME#*.}; printf -v time '%(%FT%T)T.%sZ' "${EPOCHREALTIME%.*}" "${micro:0:3}"; }
log() { now; echo "$time INFO rank=$rank: $*" >> "$run/logs/rank-$rank.log"; }

time=''
parent() { local stat; read -r stat < "/proc/$$/stat"; stat=${stat##*) }; read -r _ parent _ <<< "$stat"; }
parent; first_parent=$parent

status() { # phase outcome message
    ((rank == 0)) || return 0
    now
    local quote='"' outcome=null message=null
    [[ $2 == null ]] || outcome=$quote$2$quote
    [[ $3 == null ]] || message=$quote$3$quote
    printf '{\n  "phase": "%s",\n  "step": %d,\n  "epoch": 0,\n  "time": "%s",\n  "pid": %d,\n  "world_size": %d,\n  "outcome": %s,\n  "message": %s\n}\n' \
        "$1" "$step" "$time" $$ "$size" "$outcome" "$message" > "$run/.status"
    retry mv "$run/.status" "$run/status.json"
}
save() { ((rank == 0)) && retry mkdir -p "$run/checkpoints/$(printf %08d "$step")"; return 0; }

request=''
if [[ -z ${FAKE_DEAF:-} ]]; then
    trap 'request=${request:-preempted}' TERM USR1 USR2
    trap '[[ $request == interrupted ]] && exit 130; request=interrupted' INT
else
    trap '' TERM USR1 USR2 INT
fi

# Waits until every rank has reached this point, like an all-reduce. If a peer is dead, it never returns.
all_ranks_reach() { # point
    local other seen
    echo "$1" > "$run/sync/$count/$rank"
    for ((other = 0; other < size; other++)); do
        while :; do
            seen=-1
            { read -r seen < "$run/sync/$count/$other"; } 2> /dev/null
            ((seen >= $1)) && break
            tick
        done
    done
}
tick() {
    parent
    [[ $parent == "$first_parent" ]] || exit 1
    { sleep "${1:-0.02}" & wait $!; } 2> /dev/null
}

step=0
retry mkdir -p "$run/logs" "$run/checkpoints" "$run/sync/$count"
if [[ $resume == auto ]]; then
    for folder in "$run"/checkpoints/*; do [[ -d $folder ]] && step=$((10#${folder##*/})); done
fi
log "start $count at step $step: ${arguments[*]}"
((rank == 0)) && echo "$count ${arguments[*]}" >> "$run/starts"
read -r fail_rank fail_step fail_how fail_starts <<< "${FAKE_FAIL:-none 0 0 0}"
status starting null null
steps_done=0
while ((step < ${FAKE_STEPS:-20})); do
    if [[ $fail_rank == "$rank" && $count -lt $fail_starts && $steps_done -eq $fail_step ]]; then
        log "injected failure: $fail_how"
        echo "the fake fails on rank $rank" >&2
        case $fail_how in
            [0-9]*) status failed failed "rank $rank failed in step $step"; exit "$fail_how" ;;
            *) kill -"$fail_how" $$; sleep 60 & wait ;;
        esac
    fi
    tick "${FAKE_STEP_SECONDS:-0.05}"
    # The real ranks agree on a request in the all-reduce of a step; here they use a file.
    [[ -n $request ]] && echo "$request" > "$run/sync/$count/request"
    all_ranks_reach $((2 * steps_done + 1))
    { read -r agreed_request < "$run/sync/$count/request"; } 2> /dev/null || agreed_request=''
    all_ranks_reach $((2 * steps_done + 2))
    steps_done=$((steps_done + 1)) step=$((step + 1))
    ((step % ${FAKE_SAVE_EVERY:-1} == 0)) && save
    if [[ -n $agreed_request ]]; then
        save
        phase=failed
        [[ $agreed_request != preempted ]] || phase=preempted
        status $phase "$agreed_request" "stopped on request after step $step"
        log "stopped on request after step $step"
        [[ $agreed_request == preempted ]] && exit 75
        exit 130
    fi
    ((rank == 0)) && echo "step $step"
    status training null null
done
status 'done' 'done' null
log "done after step $step"
