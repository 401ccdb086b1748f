#!/usr/bin/env bash
# Runs the mpirun of the MPI that the binaries link, set up for a small machine: more ranks than cores, root, containers.
#
#   scripts/mpirun.sh -n 2 target/release/lift-trainer ...
#
# On a cluster, use srun or your own mpirun: these settings are for one machine.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

mpirun=$(command -v "$root/.mpi/bin/mpirun" || command -v mpirun || command -v mpiexec) || {
    echo "mpirun.sh: no mpirun on PATH; run \`make setup\`, or load your MPI module" >&2
    exit 2
}

# Open MPI up to 4 reads OMPI_..., the launcher of Open MPI 5 and newer reads PRTE_...; other MPIs read neither.
export OMPI_MCA_rmaps_base_oversubscribe=true PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
if [[ $EUID -eq 0 ]]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# In containers, ranks usually cannot read the memory of other ranks.
if [[ -e /.dockerenv || -e /run/.containerenv ]]; then
    export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_smsc=^cma
fi
exec "$mpirun" "$@"
