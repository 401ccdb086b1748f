# Rust: cargo and rustc of at least the version in rust-toolchain.toml.
# shellcheck shell=bash

find_rust() {
    local wanted home=${CARGO_HOME:-$HOME/.cargo}
    wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml")
    if ! PATH=$USER_PATH have cargo && [[ -x $home/bin/cargo ]]; then
        # rustup has installed it, but the shell has not read the new profile.
        BUILD_PATH+=("$home/bin")
        PATH=$PATH:$home/bin
    fi
    if ! have cargo; then
        need rust
        return
    fi
    local version
    version=$(rustc_version) || { install_toolchain && version=$(rustc_version); } || true
    if [[ $version != rustc\ * ]]; then
        need rust
    elif ! at_least "$wanted" "$(awk '{print $2}' <<<"$version")"; then
        warn "found $version, need $wanted or newer"
        need rust
    else
        found rust "$version"
    fi
}

rustc_version() { (cd "$ROOT" && rustc --version 2>/dev/null); }

# Installs the toolchain of rust-toolchain.toml with rustup.
install_toolchain() {
    have rustup || return 1
    say "rustup toolchain install (of rust-toolchain.toml)"
    (cd "$ROOT" && rustup toolchain install </dev/null 2>&1) || { warn "rustup could not install it"; return 1; }
}

# at_least WANTED FOUND, both like 1.95.0
at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

# Whether apt has a rustup package. The toolchain itself comes from the servers of Rust.
rustup_by_apt() {
    apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'
}
