# Shared by the parts of setup.sh: messages, the list of needs, the file `.setup.mk`.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the variables are used by the other parts

# Missing dependencies, by their name in `remedy` (system.sh).
NEEDS=()
# Lines of the report.
FOUND=()
# Variables (NAME=VALUE) and PATH folders that cargo needs in addition to the environment of the user.
BUILD_ENV=()
BUILD_PATH=()

say() { printf 'setup: %s\n' "$*"; }
warn() { printf 'setup: warning: %s\n' "$*" >&2; }
die() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }
need() { NEEDS+=("$1"); }
found() { FOUND+=("$(printf '%-9s %s' "$1" "$2")"); }

needed() {
    local name
    for name in ${NEEDS[@]+"${NEEDS[@]}"}; do
        [[ $name == "$1" ]] && return 0
    done
    return 1
}

met() {
    local name rest=()
    for name in ${NEEDS[@]+"${NEEDS[@]}"}; do
        [[ $name == "$1" ]] || rest+=("$name")
    done
    NEEDS=(${rest[@]+"${rest[@]}"})
}

# Prints a path relative to the repository, if it is inside.
shown() { printf '%s' "${1/#"$ROOT"\//}"; }

# Prints the first existing path.
first_existing() {
    local path
    for path in "$@"; do
        [[ -e $path ]] && printf '%s' "$path" && return 0
    done
    return 1
}

# Serialises setups: two at the same time (two terminals, two jobs on a shared folder) would write the same files.
lock() {
    have flock || return 0
    exec 9<"$ROOT"
    flock --wait 3600 9 || die "another setup has been running in $ROOT for an hour; end it and try again"
}

# link FILE LINK: symbolic link, relative inside the repository, so that the repository can be moved.
link() {
    local target=$1 link=$2
    if [[ $(readlink -f "$link" || true) == "$(readlink -f "$target")" ]]; then return; fi
    if [[ $target == "$ROOT"/* ]]; then
        ln -srfn "$target" "$link"
    else
        ln -sfn "$target" "$link"
    fi
}

quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# `.setup.mk` defines WITH_TOOLS, which the Makefile puts before each cargo command. The variables are not exported, because
# the next setup would then take its own wheels for modules of the user.
write_setup_mk() {
    local file=$ROOT/.setup.mk line="" entry
    # After the folders of the user, so that they hide nothing.
    for entry in ${BUILD_PATH[@]+"${BUILD_PATH[@]}"}; do
        [[ $line == *":$(quoted "$entry")"* ]] || line+=":$(quoted "$entry")"
    done
    [[ -z $line ]] || line=" PATH=\"\$PATH\"$line"
    for entry in ${BUILD_ENV[@]+"${BUILD_ENV[@]}"}; do
        line+=" ${entry%%=*}=$(quoted "${entry#*=}")"
    done
    local text="# Written by scripts/setup.sh: the variables that cargo needs in addition to your environment.
# mpi: ${MPI_NAME:-}
# simd: ${JPEG_SIMD:-}
WITH_TOOLS :=${line:+ env}${line//\$/\$\$}"
    [[ -f $file && $(<"$file") == "$text" ]] && return
    clean_if_changed "$file" "# mpi: ${MPI_NAME:-}" mpi-sys collectives
    clean_if_changed "$file" "# simd: ${JPEG_SIMD:-}" turbojpeg-sys
    printf '%s\n' "$text" >"$file.new"
    mv "$file.new" "$file"
}

# clean_if_changed FILE LINE CRATE...: cleans crates, because cargo does not notice that mpicc is another MPI or that an
# assembler has been installed.
clean_if_changed() {
    local file=$1 line=$2 crate profile
    shift 2
    [[ -f $file && -d $ROOT/target ]] || return 0
    if grep -qxF "$line" "$file"; then return 0; fi
    say "changed: ${line#\# }; will be rebuilt: $*"
    for crate in "$@"; do
        for profile in release dev; do
            (cd "$ROOT" && cargo clean --quiet --profile "$profile" -p "$crate" >/dev/null 2>&1) || true
        done
    done
}

print_env() {
    [[ -f $ROOT/.setup.mk ]] || die "run scripts/setup.sh (or make setup) first"
    sed -n -e 's/\$\$/$/g' -e 's/^WITH_TOOLS := env /export /p' "$ROOT/.setup.mk"
}

print_found() {
    local line
    for line in ${FOUND[@]+"${FOUND[@]}"}; do say "$line"; done
}
