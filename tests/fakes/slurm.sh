#!/bin/bash
# Slurm's programs without a cluster, each under its own name. What they know lies in the folder FAKE_SLURM:
#
#   job-N     what `scontrol show job N` prints; without it the job is unknown
#   tasks-N   numbers of the tasks of array N that run, one a line
#   asked     written here: what scancel and `scontrol requeue` were asked for
#
# Every job that is sent gets the number 17. No job can be put back into the queue.
set -u
case ${0##*/} in
    srun)
        [[ $1 != --mpi=list ]] || { echo "MPI plugin types are... pmix"; exit; }
        while [[ $1 == -* ]]; do shift; done
        exec "$@"
        ;;
    scontrol)
        if [[ $1 == requeue ]]; then
            echo "scontrol $*" >> "$FAKE_SLURM/asked"
            echo "Requested operation is presently disabled" >&2
            exit 1
        fi
        if [[ -e $FAKE_SLURM/down ]]; then
            echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
            exit 1
        fi
        cat "$FAKE_SLURM/job-${*: -1}" 2> /dev/null && exit
        echo "slurm_load_jobs error: Invalid job id specified" >&2
        exit 1
        ;;
    squeue)
        [[ $* == "--noheader --array --states=RUNNING --format=%K --jobs="* ]] || exit 1
        last=${*: -1}
        cat "$FAKE_SLURM/tasks-${last#*=}" 2> /dev/null
        ;;
    scancel) echo "scancel $*" >> "$FAKE_SLURM/asked" ;;
    sbatch) echo 17 ;;
    sacct) echo "Slurm accounting storage is disabled" >&2; exit 1 ;;
esac
