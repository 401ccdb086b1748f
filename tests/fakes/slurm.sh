#!/bin/bash
# Fake Slurm programs for tests without a cluster, linked under the name of each program. The folder FAKE_SLURM contains
# their state:
#
#   job-N     output of `scontrol show job N`; without this file the job is unknown
#   tasks-N   ids of the running tasks of array N, one per line
#   asked     written by the programs: the calls of scancel and `scontrol requeue`
#   down      if this file exists, the controller does not answer
#
# Every submitted job has the id 17. No job can be requeued.
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
