#!/usr/bin/env bash
# Checks licences, sources, bans and known vulnerabilities of the dependencies with the rules in deny.toml.
# Builds cargo-deny in .tools if it is missing (about three minutes on two cores, once).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VERSION=0.20.2

if ! command -v cargo-deny >/dev/null; then
    PATH=$PWD/.tools/bin:$PATH
    if ! command -v cargo-deny >/dev/null; then
        echo "deny: building cargo-deny $VERSION in .tools"
        CARGO_TARGET_DIR=$PWD/.tools/target cargo install cargo-deny --version "$VERSION" --locked --quiet --root .tools
        rm -rf .tools/target
    fi
fi

cargo deny --locked check --hide-inclusion-graph bans licenses sources

# The database of vulnerabilities is a separate git repository, which not every machine can fetch.
if timeout 120 cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch advisories
else
    echo "deny: WARNING: known vulnerabilities were NOT checked: their database cannot be fetched" >&2
fi
