/* Constants that mpi.h defines as macros; their values differ between MPI implementations. */
#include <mpi.h>

void *collectives_mpi_in_place(void) { return MPI_IN_PLACE; }

/* Returns the result of MPI_Comm_set_errhandler. */
int collectives_mpi_errors_return(MPI_Comm comm) {
    return MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
}
