#!/bin/bash
# Runs a command inside a temporary Slurm cluster on this machine. Needs root and Debian; installs the packages of Slurm,
# munge and Open MPI if they are missing.
#
#   with-slurm.sh [options] -- command [arguments]
#
#   --nodes N          nodes n1 to nN, each with its own processes, host name and /dev/shm       [2]
#   --cpus N           CPUs that each node reports                                              [4]
#   --gpus N           GPUs that each node reports                                              [0]
#   --kill-wait S      seconds from TERM to KILL when Slurm ends a job                          [5]
#   --requeue-delay S  seconds before a requeued job may start again, at least 5               [5]
#   --conf KEY=VALUE   additional line of slurm.conf; may be repeated
#   --no-install       do not install missing packages
#
# The command finds SLURM_CONF in its environment, and `slurm-node` on its PATH:
#
#   slurm-node crash n2    kills the node with all its processes
#   slurm-node freeze n2   stops all processes of the node
#   slurm-node start n2    starts the node again, or continues its processes
#
# Exit code: that of the command; 2 wrong usage; 70 the cluster did not start; 71 this machine cannot run it (with a
# message).
set -u
self=$(readlink -f "$0")
die() { echo "with-slurm: $2" >&2; exit "$1"; }
first_child() { local list; list=$(cat "/proc/$1/task/$1/children" 2> /dev/null); echo "${list%% *}"; }

# A node: the first process of its name spaces; slurmd is its child.
if [[ ${1:-} == --as-node ]]; then
    hostname "$2" && mount -t tmpfs node /dev/shm || exit 1
    slurmd -D -N "$2" >> "$CLUSTER/log/$2" 2>&1 < /dev/null
    exit
fi

# `slurm-node VERB NODE`
if [[ ${0##*/} == slurm-node ]]; then
    node=${2:?a node}
    tree() {
        local child children=()
        read -ra children < "/proc/$1/task/$1/children"
        echo "$1"
        for child in "${children[@]}"; do tree "$child"; done
    }
    outside=$(cat "$CLUSTER/run/$node" 2> /dev/null)
    case ${1:-} in
        crash) kill -KILL "$(first_child "$outside")" ;;
        freeze) tree "$(first_child "$outside")" | xargs kill -STOP ;;
        start)
            if [[ -d /proc/${outside:-none} && -n $(first_child "$outside") ]]; then
                tree "$(first_child "$outside")" | xargs kill -CONT
            else
                setsid unshare --pid --fork --kill-child=SIGKILL --mount-proc --uts \
                    "$CLUSTER/bin/with-slurm.sh" --as-node "$node" < /dev/null >> "$CLUSTER/log/$node" 2>&1 &
                echo $! > "$CLUSTER/run/$node"
            fi
            ;;
        *) die 2 "slurm-node crash|freeze|start NODE" ;;
    esac
    exit
fi

# The cluster: the first process of its own name space, so that all processes in it end with it.
if [[ ${1:-} == --as-cluster ]]; then
    shift
    {
        grep -v '^127.0.0.1[[:space:]]*localhost' /etc/hosts
        echo "127.0.0.1 localhost $NODES"
    } > "$CLUSTER/hosts"
    mount --bind "$CLUSTER/hosts" /etc/hosts || exit 71
    # Open MPI names its segments by host and process id, which are equal in concurrent clusters.
    mount -t tmpfs cluster /dev/shm || exit 71
    munged -F --force --key-file="$CLUSTER/munge.key" --socket="$CLUSTER/munge.socket" \
        --pid-file="$CLUSTER/run/munged" --log-file="$CLUSTER/log/munged" --seed-file="$CLUSTER/munge.seed" \
        > "$CLUSTER/log/munged.out" 2>&1 < /dev/null &
    for ((i = 0; i < 100; i++)); do [[ -S $CLUSTER/munge.socket ]] && break; sleep 0.05; done
    slurmctld -D -i > "$CLUSTER/log/slurmctld" 2>&1 < /dev/null &
    for node in $NODES; do slurm-node start "$node"; done
    for ((i = 0; i < 300; i++)); do
        states=$(sinfo -h -N -o %t 2> /dev/null | sort -u)
        [[ $states == idle ]] && break
        sleep 0.1
    done
    [[ $states == idle ]] || { tail -n 20 "$CLUSTER"/log/* >&2; die 70 "the cluster did not start"; }
    "$@" <&3 3<&- &
    trap 'kill -TERM $!' TERM INT
    wait $!
    code=$?
    scancel --user root --signal KILL --full 2> /dev/null
    exit "$code"
fi

nodes=2 cpus=4 gpus=0 kill_wait=5 requeue_delay=5 conf='' install=1
while (($#)); do
    case $1 in
        --nodes) nodes=$2; shift ;;
        --cpus) cpus=$2; shift ;;
        --gpus) gpus=$2; shift ;;
        --kill-wait) kill_wait=$2; shift ;;
        --requeue-delay) requeue_delay=$2; shift ;;
        --conf) conf+=$2$'\n'; shift ;;
        --no-install) install='' ;;
        --) shift; break ;;
        *) die 2 "unknown option $1; see the head of $self" ;;
    esac
    shift
done
(($#)) || die 2 "no command; see the head of $self"
[[ $EUID == 0 ]] || die 71 "needs root"
PATH=$PATH:/usr/sbin:/sbin

# The PMIx plugin of Slurm opens libpmix.so, a link that only the -dev package contains.
libraries=/usr/lib/$(uname -m)-linux-gnu
missing() {
    local path package
    while read -r path package; do [[ -e $path ]] || echo "$package"; done << LIST
/usr/sbin/slurmctld slurmctld
/usr/sbin/slurmd slurmd
/usr/bin/sbatch slurm-client
$libraries/slurm-wlm/mpi_pmix.so slurm-wlm-basic-plugins
$libraries/pmix2/lib/libpmix.so libpmix-dev
/usr/sbin/munged munge
/usr/bin/mpirun openmpi-bin
LIST
}
if [[ -n $(missing) ]]; then
    [[ -n $install ]] || die 71 "missing packages: $(missing | tr '\n' ' ')"
    command -v apt-get > /dev/null || die 71 "missing, and there is no apt-get: $(missing | tr '\n' ' ')"
    policy=/usr/sbin/policy-rc.d
    # Prevents the installed packages from starting daemons.
    [[ -e $policy ]] || { printf '#!/bin/sh\nexit 101\n' > $policy && chmod 755 $policy && trap 'rm -f $policy' EXIT; }
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -q -o DPkg::Lock::Timeout=300 update &&
        missing | xargs apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends; } > /dev/null 2>&1
    [[ -z $(missing) ]] || die 71 "cannot install: $(missing | tr '\n' ' ')"
    trap - EXIT
    [[ $(cat $policy) != $'#!/bin/sh\nexit 101' ]] || rm -f $policy
fi
apart=(unshare --mount --pid --fork --kill-child=SIGKILL --mount-proc --propagation private)
"${apart[@]}" --uts mount -t tmpfs node /dev/shm 2> /dev/null || die 71 "the kernel refuses name spaces"

unset "${!SLURM_@}" "${!SBATCH_@}" "${!SRUN_@}"
# In /tmp, because paths of sockets must be short.
CLUSTER=$(mktemp -d /tmp/slurm.XXXXXX) || exit 70
trap 'rm -rf --one-file-system "$CLUSTER"' EXIT
chmod 755 "$CLUSTER"
mkdir "$CLUSTER"/{bin,dev,log,run,spool,state,tmp}
head -c 1024 /dev/urandom > "$CLUSTER/munge.key" && chmod 600 "$CLUSTER/munge.key"
cp "$self" "$CLUSTER/bin/with-slurm.sh"
ln -s with-slurm.sh "$CLUSTER/bin/slurm-node"
NODES=$(seq -f 'n%g' -s ' ' "$nodes")

# Consecutive free ports for slurmctld and each slurmd, below the ephemeral ports.
port=$((20000 + RANDOM % 10000))
for ((i = 0; i <= nodes; i++)); do
    if (exec 9<> "/dev/tcp/127.0.0.1/$((port + i))") 2> /dev/null; then port=$((port + i + 1)) i=-1; fi
done
host=$(uname -n)
{
    cat << CONF
ClusterName=test
SlurmctldHost=${host%%.*}(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthInfo=socket=$CLUSTER/munge.socket,cred_expire=$requeue_delay
StateSaveLocation=$CLUSTER/state
SlurmdSpoolDir=$CLUSTER/spool/%n
TmpFS=$CLUSTER/tmp/%n
SlurmctldPidFile=$CLUSTER/run/slurmctld
SlurmdPidFile=$CLUSTER/run/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,sched_interval=5,sched_min_interval=200000
MpiDefault=pmix
ReturnToService=2
KillWait=$kill_wait
SlurmdTimeout=10
SlurmctldTimeout=10
MessageTimeout=10
TCPTimeout=2
MinJobAge=3600
CONF
    gres=''
    if ((gpus > 0)); then
        # The file of a GPU must be a character device.
        for ((i = 0; i < gpus; i++)); do ln -s /dev/null "$CLUSTER/dev/gpu$i"; done
        files=$CLUSTER/dev/gpu0
        ((gpus == 1)) || files="$CLUSTER/dev/gpu[0-$((gpus - 1))]"
        printf 'AutoDetect=off\nName=gpu File=%s\n' "$files" > "$CLUSTER/gres.conf"
        gres=" Gres=gpu:$gpus"
        echo GresTypes=gpu
    fi
    printf '%s' "$conf"
    for ((i = 1; i <= nodes; i++)); do
        mkdir "$CLUSTER/spool/n$i" "$CLUSTER/tmp/n$i"
        echo "NodeName=n$i NodeHostname=n$i NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=$cpus RealMemory=8192$gres State=UNKNOWN"
    done
    echo "PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
} > "$CLUSTER/slurm.conf"

export CLUSTER NODES SLURM_CONF=$CLUSTER/slurm.conf PATH=$CLUSTER/bin:$PATH
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
exec 3<&0
"${apart[@]}" "$self" --as-cluster "$@" &
cluster=$!
trap 'kill -TERM "$(first_child "$cluster")" 2> /dev/null' TERM INT
while :; do
    wait "$cluster"
    code=$?
    [[ -d /proc/$cluster ]] || break
done
exit "$code"
