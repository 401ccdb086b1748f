#!/usr/bin/env bash
# Finds or installs what the build needs: Rust, a C++ tool chain, MPI, libclang, libtorch.
#
#   scripts/setup.sh          find dependencies, install missing ones, print a report
#   scripts/setup.sh --env    print shell lines for a plain `cargo build` (needed only without root)
#
# It is quick if nothing is missing, and can be repeated. Outside the repository it installs only system packages, and those
# only as root (or with passwordless sudo) on systems with apt.
#
#   LIFT_SETUP_NO_ROOT=1   never use apt: loaded modules, then wheels in .venv
#   LIFT_CUDA=1 | 0        libtorch with | without its CUDA libraries (default: with, if there is a driver)
#   LIBTORCH=DIR           use this libtorch instead of the wheels (DIR/lib/libtorch_cpu.so)
set -Eeuo pipefail
trap 'echo "setup: error: stopped by an unexpected failure at ${BASH_SOURCE[0]##*/}:$LINENO" >&2' ERR

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
# shellcheck disable=SC2034  # for the parts
readonly VENV=$ROOT/.venv TOOLS=$ROOT/.tools USER_PATH=$PATH

for part in common rust wheels system mpi images libtorch; do
    # shellcheck source=/dev/null
    source "$ROOT/scripts/setup/$part.sh"
done

main() {
    case ${1:-} in
        '') ;;
        --env) print_env; return ;;
        *) die "unknown argument \`$1\`; only --env is known" ;;
    esac
    # mpicc, make and cc do not support spaces in paths.
    [[ $ROOT != *[[:space:]]* ]] || die "the repository's path has a space: $ROOT; move it"
    lock
    find_all
    # Installs with apt first, then from wheels, then reports everything that is still missing.
    if install_by_apt; then find_all; fi
    install_without_root
    stop_if_missing

    link_mpi
    link_libtorch
    write_setup_mk
    print_found
}

# Also called after apt-get, to find the installed packages.
find_all() {
    hash -r
    # shellcheck disable=SC2034  # for the parts
    NEEDS=() FOUND=() BUILD_ENV=() BUILD_PATH=()
    find_rust
    find_compilers
    find_mpi
    find_libclang
    find_assembler
    find_libtorch
}

main "$@"
