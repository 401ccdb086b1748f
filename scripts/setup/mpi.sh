# MPI and libclang, with which bindgen reads mpi.h.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the variables are used by the other parts

# The mpicc of the user (MPICC, PATH), or else that of the wheel.
find_mpi() {
    MPI_NAME="" MPI_CC=""
    local own=${MPICC:-mpicc} wheel
    wheel=$(wheel_program mpicc || true)
    if have "$own" && [[ $(command -v "$own") != "$VENV"/* ]] && mpi_compiles "$own"; then
        MPI_CC=$(command -v "$own")
    elif [[ -n $wheel ]] && have cc && mpi_compiles "$wheel"; then
        MPI_CC=$wheel
        BUILD_ENV+=("MPICC=$wheel")
        BUILD_PATH+=("$(dirname "$wheel")")
    else
        need mpi
        return 0
    fi
    MPI_NAME="$(mpi_version "$MPI_CC") ($(shown "$MPI_CC"))"
    found MPI "$MPI_NAME"
    check_mpirun
}

mpi_compiles() { "$1" -E -x c - <<<'#include <mpi.h>' >/dev/null 2>&1; }

mpi_version() {
    local text
    if text=$("$1" --showme:version 2>/dev/null); then # Open MPI
        text=${text#*: }
        printf '%s' "${text% (Language*}"
    elif text=$("$1" -v 2>/dev/null | head -n 1) && [[ $text == mpicc\ for\ * ]]; then # MPICH and its kin
        printf '%s' "${text#mpicc for }"
    else
        printf 'MPI of unknown make'
    fi
}

# The mpirun of another MPI would start N separate worlds with one rank each.
check_mpirun() {
    local folder
    folder=$(dirname "$MPI_CC")
    if [[ -x $folder/mpirun || -x $folder/mpiexec ]]; then return 0; fi
    have srun || warn "no mpirun beside $MPI_CC and no srun: the build works, but only single ranks can start"
}

# Binaries find libmpi through .mpi/lib if the loader of the system does not know its folder (modules, wheel).
link_mpi() {
    local folder library real
    for folder in $(mpi_library_folders); do
        library=$(first_existing "$folder"/libmpi.so "$folder"/libmpich.so) && break
    done
    if [[ -z ${library:-} ]]; then
        warn "no libmpi.so in the folders that $MPI_CC links from"
        return 0
    fi
    real=$(readlink -f "$library")
    if loader_knows "$real"; then
        rm -rf "$ROOT/.mpi"
        return 0
    fi
    mkdir -p "$ROOT/.mpi"
    link "$folder" "$ROOT/.mpi/lib"
    link "$(dirname "$MPI_CC")" "$ROOT/.mpi/bin"
}

mpi_library_folders() {
    "$MPI_CC" --showme:libdirs 2>/dev/null ||
        "$MPI_CC" -show 2>/dev/null | tr ' ' '\n' | sed -n 's/^-L//p' | tr -d \"\'
}

# Whether the loader finds this file under its name.
loader_knows() {
    local cached
    while read -r cached; do
        [[ $(readlink -f "$cached") == "$1" ]] && return 0
    done < <(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | sed -n 's/.*libmpi.*\.so.* => //p')
    return 1
}

find_libclang() {
    local folder
    if folder=$(system_libclang); then
        found libclang "$folder"
    elif folder=$(path_libclang); then
        BUILD_ENV+=("LIBCLANG_PATH=$folder")
        found libclang "$folder"
    elif folder=$(wheel_path clang/native) && have gcc; then
        # The wheel contains only the library; the compiler headers (stddef.h) come from gcc.
        BUILD_ENV+=("LIBCLANG_PATH=$folder" "BINDGEN_EXTRA_CLANG_ARGS=-I$(gcc -print-file-name=include)")
        found libclang "$(shown "$folder") (wheel)"
    else
        need libclang
    fi
}

# The folders in which bindgen searches by default.
system_libclang() {
    local folder file folders=(/usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/lib{64,}/llvm*/lib{64,})
    if [[ -f ${LIBCLANG_PATH:-} ]]; then
        dirname "$LIBCLANG_PATH"
        return 0
    fi
    for folder in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"} "${folders[@]}"; do
        for file in "$folder"/libclang.so "$folder"/libclang-[0-9]*.so* "$folder"/libclang.so.*; do
            [[ -f $file ]] && printf '%s' "$folder" && return 0
        done
    done
    return 1
}

# A loaded module: libclang beside clang, or in LD_LIBRARY_PATH.
path_libclang() {
    local folder folders=() entry
    if have clang; then folders+=("$(dirname "$(dirname "$(readlink -f "$(command -v clang)")")")/lib"); fi
    while IFS= read -r -d : entry; do folders+=("$entry"); done <<<"${LD_LIBRARY_PATH:-}:"
    for folder in ${folders[@]+"${folders[@]}"}; do
        [[ -n $folder ]] && first_existing "$folder"/libclang.so* >/dev/null && printf '%s' "$folder" && return 0
    done
    return 1
}
