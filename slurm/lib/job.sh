# shellcheck shell=bash
# What every batch script of LIFT does, from the trainer's arguments to the decision about a requeue. Sourced by the
# scripts in slurm/, and part of what `lift render` prints. slurm/README.md says what it means for a person.
#
# Read from the environment: LIFT_TRAINER, LIFT_CONTAINER, LIFT_RANKS_PER_NODE, LIFT_MAX_RESTARTS,
# LIFT_HANG_SECONDS. Given to the ranks: LIFT_RESTART_COUNT.

lift_say() { printf 'lift: %s\n' "$*" >&2; }
lift_die() { local code=$1; shift; lift_say "$*"; exit "$code"; }

# The whole job.
lift_job() { # [--] arguments of lift-trainer
    [[ ${1:-} != -- ]] || shift
    export LIFT_RESTART_COUNT=${SLURM_RESTART_COUNT:-0}
    local LIFT_ARGUMENTS=("$@") LIFT_RESUME=() LIFT_RUN='' LIFT_COMMAND=() LIFT_LAUNCH=() LIFT_BEFORE='' LIFT_FROM=0 LIFT_OFFSET=0 LIFT_LOGGED=()
    local LIFT_SAVE='' LIFT_ENDED='' LIFT_CODE=0
    # A handler only sets a flag: with more in it, bash loses the second of two signals that come at once.
    trap 'LIFT_SAVE=1' USR1 USR2
    trap 'LIFT_ENDED=1' TERM
    lift_arguments
    lift_trainer
    lift_launcher
    lift_step_number
    lift_watch
    lift_decide
}

# Names the sub-command and the run folder, so that a restart finds both, and asks for the newest checkpoint then. A path
# that the person named after --resume stays: the trainer of a restart takes it where the run has no checkpoint yet.
lift_arguments() {
    local list=("${LIFT_ARGUMENTS[@]}") argument verb='' trains=1 name index from=''
    LIFT_ARGUMENTS=()
    for argument in "${list[@]}"; do
        LIFT_ARGUMENTS+=("${argument//%a/${SLURM_ARRAY_TASK_ID:-%a}}")
        [[ $argument == -* || -n $verb ]] || verb=$argument
        [[ $argument != --help && $argument != --version ]] || trains=''
    done
    [[ -z $verb || $verb == train ]] || trains=''
    [[ -n $trains ]] || return 0
    [[ -n $verb ]] || LIFT_ARGUMENTS+=(train)
    list=("${LIFT_ARGUMENTS[@]}") LIFT_ARGUMENTS=()
    for ((index = 0; index < ${#list[@]}; index++)); do
        argument=${list[index]}
        case $argument in
            --output | -o) LIFT_RUN=${list[index + 1]:-} ;;
            --output=*) LIFT_RUN=${argument#*=} ;;
            -o?*) LIFT_RUN=${argument#-o} LIFT_RUN=${LIFT_RUN#=} ;;
            --resume) index=$((index + 1)) from=${list[index]:-}; continue ;;
            --resume=*) from=${argument#*=}; continue ;;
        esac
        LIFT_ARGUMENTS+=("$argument")
    done
    if [[ -z $LIFT_RUN ]]; then
        name=$SLURM_JOB_ID
        [[ -z ${SLURM_ARRAY_TASK_ID:-} ]] || name=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
        LIFT_RUN=runs/slurm-$name
        LIFT_ARGUMENTS+=(--output "$LIFT_RUN")
    fi
    if ((LIFT_RESTART_COUNT > 0)) && [[ -z $from || $from == never ]]; then from=auto; fi
    [[ -z $from ]] || LIFT_RESUME=(--resume "$from")
    mkdir -p "$LIFT_RUN/logs" || lift_die 2 "cannot create $LIFT_RUN/logs; name another folder with --output"
}

# The trainer, on this file system or in an image.
lift_trainer() {
    local apptainer
    if [[ -n ${LIFT_CONTAINER:-} ]]; then
        [[ -e $LIFT_CONTAINER || $LIFT_CONTAINER == *://* ]] ||
            lift_die 2 "the image $LIFT_CONTAINER does not exist; name yours in LIFT_CONTAINER"
        apptainer=$(command -v apptainer || command -v singularity) ||
            lift_die 2 "neither apptainer nor singularity is on PATH; load its module before sbatch"
        LIFT_COMMAND=("$apptainer" exec --bind "$PWD" --pwd "$PWD")
        [[ -z ${SLURM_GPUS_ON_NODE:-} ]] || LIFT_COMMAND+=(--nv)
        LIFT_COMMAND+=("$LIFT_CONTAINER" "${LIFT_TRAINER:-lift-trainer}")
        return
    fi
    : "${LIFT_TRAINER:=$SLURM_SUBMIT_DIR/target/release/lift-trainer}"
    [[ -x $LIFT_TRAINER ]] ||
        lift_die 2 "$LIFT_TRAINER does not exist or is no program; build it with \`make build\` and call sbatch in the repository, or name yours in LIFT_TRAINER"
    LIFT_COMMAND=("$LIFT_TRAINER")
}

# Fewest CPUs that the job has on a node: `4(x2),8`.
lift_cpus() {
    local counts=${SLURM_JOB_CPUS_PER_NODE:-${SLURM_CPUS_ON_NODE:-1}}
    tr ',' '\n' <<< "$counts" | sed 's/(.*//' | sort -n | head -n 1
}

# srun where it can start MPI ranks, else mpirun. One rank per GPU, or as many as the job has tasks.
lift_launcher() {
    local nodes=${SLURM_JOB_NUM_NODES:-${SLURM_NNODES:-1}} gpus=${SLURM_GPUS_ON_NODE:-0} per_node ranks cpus
    per_node=${LIFT_RANKS_PER_NODE:-${SLURM_NTASKS_PER_NODE:-}}
    if [[ -z $per_node ]] && ((gpus > 0 && ${SLURM_NTASKS:-$nodes} == nodes)); then per_node=$gpus; fi
    ranks=${SLURM_NTASKS:-$nodes}
    [[ -z $per_node ]] || ranks=$((nodes * per_node))
    if srun --mpi=list 2>&1 | grep -q pmix; then
        LIFT_LAUNCH=(srun "--nodes=$nodes" "--ntasks=$ranks" --mpi=pmix --kill-on-bad-exit=1)
        if [[ -n $per_node ]]; then
            LIFT_LAUNCH+=("--ntasks-per-node=$per_node")
            cpus=$(lift_cpus)
            if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then LIFT_LAUNCH+=("--cpus-per-task=$SLURM_CPUS_PER_TASK")
            elif ((cpus >= per_node)); then LIFT_LAUNCH+=("--cpus-per-task=$((cpus / per_node))")
            else
                lift_say "note: $per_node ranks share the $cpus CPUs that the job has on a node; ask for more with --cpus-per-task"
                LIFT_LAUNCH+=(--overcommit)
            fi
        fi
        # Each rank sees all GPUs of its node and takes the one of its number: NCCL has to see its neighbours'.
        ((gpus == 0)) || LIFT_LAUNCH+=(--gpu-bind=none)
    else
        command -v mpirun > /dev/null || lift_die 2 "srun --mpi=list names no pmix, and there is no mpirun on PATH; load your MPI module before sbatch"
        lift_say "note: srun --mpi=list names no pmix here; starting the ranks with mpirun"
        # Between the TERM that ranks get when Slurm ends a job and their KILL, mpirun leaves a second by itself.
        export OMPI_MCA_odls_base_sigkill_timeout=10 PRTE_MCA_odls_base_sigkill_timeout=10
        LIFT_LAUNCH=(mpirun -n "$ranks" --bind-to none)
        [[ -z $per_node ]] || LIFT_LAUNCH+=(--map-by "ppr:$per_node:node")
    fi
    lift_say "start $LIFT_RESTART_COUNT of job ${SLURM_JOB_ID}: $ranks ranks on $nodes nodes${LIFT_RUN:+, run folder $LIFT_RUN}"
}

# A node that died leaves the PMIx folder of its step behind, and a step of the same number cannot start there: Slurm
# counts steps from 0 again after a requeue. So each start uses a number of its own.
lift_step_number() {
    local number
    [[ ${LIFT_LAUNCH[0]} == srun ]] || return 0
    for ((number = 0; number < LIFT_RESTART_COUNT; number++)); do
        srun --mpi=none --nodes=1 --ntasks=1 true < /dev/null
    done
}

lift_status() { cat "${LIFT_RUN:-/nonexistent}/status.json" 2> /dev/null; }
# A field of status.json, which has one on each line.
lift_field() { sed -n -e "s/^ *\"$1\": \"\(.*\)\",\{0,1\}$/\1/p" -e "s/^ *\"$1\": \([^\",]*\),\{0,1\}$/\1/p" <<< "$2"; }
# The step of the newest checkpoint, 0 without one.
lift_checkpoint() {
    local folder step=0
    for folder in "$LIFT_RUN"/checkpoints/[0-9]*; do
        [[ ! ${folder##*/} =~ ^[0-9]+$ ]] || ((10#${folder##*/} <= step)) || step=$((10#${folder##*/}))
    done
    echo "$step"
}
# Where the job's output goes, which holds what srun says about ranks.
lift_output() { scontrol show job "$SLURM_JOB_ID" 2> /dev/null | sed -n 's/^ *StdErr=//p' | head -n 1; }

# Starts the ranks, asks them to save when Slurm says that the time is nearly up, and waits for their end.
lift_watch() {
    local ranks sent='' ending='' file name
    LIFT_BEFORE=$(lift_status) LIFT_FROM=$(lift_checkpoint)
    rm -f "$LIFT_RUN/logs/cancelled"
    ((LIFT_RESTART_COUNT > 0)) || rm -f "$LIFT_RUN/logs/without-gain"
    file=$(lift_output)
    [[ ! -f $file ]] || LIFT_OFFSET=$(wc -c < "$file")
    for file in "$LIFT_RUN"/logs/rank-*.log; do
        name=${file##*/}
        [[ ! -f $file ]] || LIFT_LOGGED[${name//[!0-9]/}]=$(wc -c < "$file")
    done
    if [[ -n $LIFT_SAVE ]]; then
        lift_say "asked to end before the ranks had begun"
        lift_requeue
        exit 75
    fi
    "${LIFT_LAUNCH[@]}" "${LIFT_COMMAND[@]}" "${LIFT_ARGUMENTS[@]}" "${LIFT_RESUME[@]}" < /dev/null &
    ranks=$!
    # A signal that comes between two waits is seen a second later at most.
    while kill -0 "$ranks" 2> /dev/null; do
        if [[ -n $LIFT_SAVE && -z $ending ]] && ((${sent:-0} <= SECONDS)); then
            [[ -n $sent ]] || lift_say "asking the ranks to save and end"
            # srun and mpirun pass USR2 on to all ranks. TERM they would not: it ends the ranks at once. What comes
            # while they still start the ranks may be lost, so it is said again.
            kill -USR2 "$ranks"
            sent=$((SECONDS + 10))
        fi
        [[ -n $sent$ending ]] || lift_hangs || { lift_say "ending the ranks"; kill -TERM "$ranks"; ending=1; }
        sleep 1 &
        wait $!
    done
    wait "$ranks"
    LIFT_CODE=$?
}

# False when status.json has been silent for LIFT_HANG_SECONDS; without that, ranks watch each other alone.
lift_hangs() {
    local file=$LIFT_RUN/status.json age
    [[ ${LIFT_HANG_SECONDS:-0} -gt 0 && -e $file ]] || return 0
    age=$(($(date +%s) - $(stat -c %Y "$file")))
    ((SECONDS < LIFT_HANG_SECONDS || age < LIFT_HANG_SECONDS)) && return 0
    lift_say "$file has not changed for $age s (LIFT_HANG_SECONDS=$LIFT_HANG_SECONDS)"
    return 1
}

# The exit code of the ranks is a hint (srun may turn 75 into 143); what status.json says counts.
lift_decide() {
    local after outcome='' message
    after=$(lift_status)
    # What an earlier start wrote says nothing of this one.
    [[ $after != "$LIFT_BEFORE" ]] || after=''
    if [[ -n $after ]]; then
        outcome=$(lift_field outcome "$after")
        [[ $outcome != null || $LIFT_CODE -ne 0 ]] || outcome=failed
    fi
    if [[ -z $outcome || $outcome == null ]]; then
        case $LIFT_CODE in
            0) outcome='done' ;; 2) outcome=wrong_input ;; 75) outcome=preempted ;; 130) outcome=interrupted ;;
            *) outcome=failed ;;
        esac
    fi
    case $outcome in
        'done') exit 0 ;;
        wrong_input) lift_die 2 "wrong input: nothing to try again" ;;
        interrupted) lift_die 130 "interrupted on request: not put back into the queue" ;;
        preempted) lift_preempted "$after" ;;
    esac
    message=$(lift_field message "$after")
    [[ $message != null ]] || message=''
    lift_failed "$message"
}

lift_preempted() { # status
    local step
    step=$(lift_field step "$1")
    lift_say "saved and stopped after step ${step:-$(lift_checkpoint)}"
    # After TERM the job is Slurm's: cancelled, requeued, or out of time. Putting it back would undo a scancel.
    [[ -z $LIFT_ENDED ]] || lift_die 75 "Slurm ends this job; it decides whether to start it again"
    lift_requeue
    exit 75
}

lift_failed() { # message
    lift_say "failed (exit code $LIFT_CODE of ${LIFT_LAUNCH[0]})${1:+: $1}"
    lift_last_words "$1"
    [[ -z $LIFT_ENDED ]] || lift_die 1 "Slurm ends this job; it decides whether to start it again"
    # Ranks that were asked to save before they could hear it end of the signal: that says nothing against them.
    if [[ -n $LIFT_SAVE ]] || lift_hopeful; then lift_requeue
    else lift_say "not put back into the queue: two starts in a row gained no checkpoint (the newest is of step $(lift_checkpoint))"; fi
    exit 1
}

# False after the second start in a row that left no newer checkpoint than it found. Where a start died says less: what it
# did after its last checkpoint is done again. The first such start notes the step that it did not get beyond.
lift_hopeful() {
    local note=$LIFT_RUN/logs/without-gain newest noted=''
    newest=$(lift_checkpoint)
    ((newest <= LIFT_FROM)) || return 0
    [[ ! -e $note ]] || read -r noted < "$note"
    [[ $noted != "$newest" ]] || return 1
    echo "$newest" > "$note"
    return 0
}

# The last lines that this start added to the log of the rank that failed first: the one that the message begins with,
# or that srun or mpirun names first, else rank 0.
lift_last_words() { # message
    local file rank log lines
    file=$(lift_output)
    rank=$(sed -n 's/^rank \([0-9]*\)[ :].*/\1/p' <<< "$1")
    [[ -n $rank ]] || rank=$(tail -c "+$((LIFT_OFFSET + 1))" "$file" 2> /dev/null | sed -n \
        -e '/: Terminated$/d' -e 's/^srun: error: [^:]*: tasks\{0,1\} \([0-9]*\)[-,0-9]*: .*/\1/p' \
        -e 's/.* noticed that process rank \([0-9]*\) .*/\1/p' -e 's/^ *Process name: .*,\([0-9]*\)\]$/\1/p' | head -n 1)
    log=$LIFT_RUN/logs/rank-${rank:-0}.log
    [[ -z $rank ]] || lift_say "rank $rank failed first"
    [[ -f $log ]] || return 0
    lines=$(tail -c "+$((${LIFT_LOGGED[${rank:-0}]:-0} + 1))" "$log" | tail -n 15 | sed 's/^/    /')
    [[ -n $lines ]] || return 0
    lift_say "last lines of $log:"
    printf '%s\n' "$lines" >&2
}

# Puts the job back into the queue; comes back only if that cannot be.
lift_requeue() {
    local job=$SLURM_JOB_ID most=${LIFT_MAX_RESTARTS:-10} from=${LIFT_RESUME[1]:-auto}
    # The number of one task of an array may be that of the whole array.
    [[ -z ${SLURM_ARRAY_TASK_ID:-} ]] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    if [[ -e $LIFT_RUN/logs/cancelled ]]; then
        lift_say "not put back into the queue: lift cancel ends this job"
        return
    fi
    if ((LIFT_RESTART_COUNT >= most)); then
        lift_say "not put back into the queue: it was started again $LIFT_RESTART_COUNT times (LIFT_MAX_RESTARTS=$most)"
        return
    fi
    lift_say "putting job $job back into the queue (restart $((LIFT_RESTART_COUNT + 1)) of at most $most)"
    scontrol requeue "$job" || {
        if [[ $from == never ]] || (($(lift_checkpoint) > 0)); then from=auto; fi
        lift_say "scontrol cannot requeue it (see above); go on with: sbatch ... -- ${LIFT_ARGUMENTS[*]} --resume $from"
        return
    }
    # Slurm takes the script away now.
    sleep 120 &
    wait $!
}
