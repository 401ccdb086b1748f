#!/usr/bin/env bash
# Links a program against glibc 2.28, whatever the glibc of this machine: rustc calls this in place of `cc`.
#
# zig brings the start files and the symbols of old glibcs. For it, -lstdc++ and -lgcc_s mean its own C++ and unwinding
# libraries, but libtorch needs those of GCC: they are named as files, and so is OpenMP's, which only GCC's driver finds.
# ZIG is the program, OLD_SYSTEMS an object file.
set -euo pipefail

arguments=()
for argument; do
    case $argument in
        -lstdc++) arguments+=("$(c++ -print-file-name=libstdc++.so.6)") ;;
        -lgcc_s | -lgomp) arguments+=("$(c++ -print-file-name="lib${argument#-l}.so.1")") ;;
        *) arguments+=("$argument") ;;
    esac
done
exec "$ZIG" cc -target x86_64-linux-gnu.2.28 "${arguments[@]}" "$OLD_SYSTEMS" -Wl,--allow-shlib-undefined
