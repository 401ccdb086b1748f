# Dependencies of libjpeg-turbo, which a crate builds from source: on x86-64 an assembler for its SIMD code.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the variables are used by the other parts

find_assembler() {
    local own=$TOOLS/nasm/usr/bin
    JPEG_SIMD=yes
    [[ $(uname -m) == x86_64 ]] || return 0 # other machines need only the compiler
    if have nasm || have yasm; then
        found nasm "$(command -v nasm || command -v yasm)"
    elif [[ -x $own/nasm ]] && "$own/nasm" -v >/dev/null 2>&1; then
        BUILD_PATH+=("$own")
        found nasm "$(shown "$own/nasm")"
    else
        need nasm
    fi
}

# Without root: unpacks the package of the distribution in .tools. Otherwise builds libjpeg-turbo without SIMD, which gives
# the same pixels but is slower.
assembler_without_root() {
    met nasm
    if unpack_nasm; then
        find_assembler
        needed nasm || return 0
        met nasm
    fi
    warn "no nasm or yasm: JPEG decoding will use no SIMD; it gives the same pixels but is slower"
    warn "for full speed: install the package nasm, or module load NASM, then make build again"
    JPEG_SIMD=no
    BUILD_ENV+=("CMAKE_TOOLCHAIN_FILE=$ROOT/scripts/setup/without-simd.cmake")
    found nasm "none: JPEG decoding without SIMD"
}

# No wheel contains this assembler (wheels with this name are other programs), but package managers download files without
# root.
unpack_nasm() (
    mkdir -p "$TOOLS/nasm" && cd "$TOOLS/nasm" || return 1
    if have apt-get && have dpkg-deb; then
        say "apt-get download nasm, unpacked in .tools"
        download_deb && dpkg-deb -x nasm_*.deb .
    elif have dnf && have rpm2cpio && have cpio; then
        say "dnf download nasm, unpacked in .tools"
        dnf -q download nasm && rpm2cpio nasm-*.rpm | cpio -idm --quiet
    else
        return 1
    fi >/dev/null 2>&1 </dev/null && [[ -x usr/bin/nasm ]]
)

# If the package lists of the system are empty, as in containers, this uses its own lists.
download_deb() {
    apt-get download nasm && return 0
    local own=(-o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache")
    mkdir -p lists/partial cache/archives/partial
    apt-get "${own[@]}" update && apt-get "${own[@]}" download nasm
    local result=$?
    rm -rf lists cache
    return $result
}
