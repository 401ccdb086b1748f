# What libjpeg-turbo (built from source inside a crate) needs: on x86-64 an assembler for its fast paths.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the variables are used by the other parts

find_assembler() {
    local own=$TOOLS/nasm/usr/bin
    JPEG_SIMD=yes
    [[ $(uname -m) == x86_64 ]] || return 0 # elsewhere the compiler does
    if have nasm || have yasm; then
        found nasm "$(command -v nasm || command -v yasm)"
    elif [[ -x $own/nasm ]] && "$own/nasm" -v >/dev/null 2>&1; then
        BUILD_PATH+=("$own")
        found nasm "$(shown "$own/nasm")"
    else
        need nasm
    fi
}

# Without root: the distribution's package unpacked beside us; else libjpeg-turbo without its fast paths, which
# gives the same pixels, slower.
assembler_without_root() {
    met nasm
    if unpack_nasm; then
        find_assembler
        needed nasm || return 0
        met nasm
    fi
    warn "no nasm or yasm: JPEG decoding will use no SIMD, the same pixels, but slower"
    warn "for full speed: install the package nasm, or module load NASM, then make build again"
    JPEG_SIMD=no
    BUILD_ENV+=("CMAKE_TOOLCHAIN_FILE=$ROOT/scripts/setup/without-simd.cmake")
    found nasm "none: JPEG decoding without SIMD"
}

# No wheel has this assembler (those named like it are other things), but package managers hand out files
# to everybody.
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

# The system's package lists may be empty (containers): then with lists of our own.
download_deb() {
    apt-get download nasm && return 0
    local own=(-o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache")
    mkdir -p lists/partial cache/archives/partial
    apt-get "${own[@]}" update && apt-get "${own[@]}" download nasm
    local result=$?
    rm -rf lists cache
    return $result
}
