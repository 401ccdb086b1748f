/* Values that mpi.h gives as macros, which differ between MPI implementations. */
#include <mpi.h>

void *collectives_mpi_in_place(void) { return MPI_IN_PLACE; }

/* MPI_SUCCESS, or what MPI_Comm_set_errhandler answered. */
int collectives_mpi_errors_return(MPI_Comm comm) {
    return MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
}
