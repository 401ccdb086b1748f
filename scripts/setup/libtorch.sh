# libtorch, from LIBTORCH or from the wheels, linked into the folder .libtorch.
#
# .libtorch does not contain libtorch_cuda.so: the build would link it, and the binary would not start without CUDA. The
# program opens it at run time, from the real folder of libtorch_cpu.so.
# shellcheck shell=bash

readonly VIEW=$ROOT/.libtorch

# TORCH_HOME: folder with include/ and lib/ of the libtorch to use.
find_libtorch() {
    TORCH_HOME=""
    local own=${LIBTORCH:-}
    if [[ -n $own && $(readlink -f "$own") != $(readlink -f "$VIEW") ]]; then
        take_own_libtorch "$own"
    elif own=$(wheel_path torch/lib/libtorch_cpu.so) && wheels_complete "${own%/lib/*}"; then
        TORCH_HOME=${own%/lib/*}
    else
        need libtorch
    fi
}

take_own_libtorch() {
    local own version
    own=$(readlink -f "$1")
    [[ -f $own/lib/libtorch_cpu.so ]] ||
        die "LIBTORCH=$1 has no lib/libtorch_cpu.so; set it to the folder that has include/ and lib/, or unset it"
    version=$(torch_version "$own")
    [[ ${version%.*} == "${TORCH_VERSION%.*}" ]] ||
        die "LIBTORCH=$1 is version ${version:-unknown}, need ${TORCH_VERSION%.*}; set it to one of that version, or unset it"
    TORCH_HOME=$own
    # The build must use .libtorch, which omits the CUDA libraries.
    BUILD_ENV+=("LIBTORCH=$VIEW")
}

torch_version() {
    { cat "$1"/include/torch/headeronly/version.h "$1"/include/torch/version.h 2>/dev/null || true; } |
        awk '$2 ~ /^TORCH_VERSION_(MAJOR|MINOR|PATCH)$/ && n < 3 { v = v (n++ ? "." : "") $3 } END { print v }'
}

wants_cuda() {
    case ${LIFT_CUDA:-} in
        1) return 0 ;;
        0) return 1 ;;
        '') [[ -e /proc/driver/nvidia/version ]] || { have nvidia-smi && nvidia-smi >/dev/null 2>&1; } ;;
        *) die "LIFT_CUDA=$LIFT_CUDA: expected 1, 0 or nothing" ;;
    esac
}

# Whether the wheels have the right version, and all CUDA libraries if CUDA is requested.
wheels_complete() {
    [[ $(torch_version "$1") == "$TORCH_VERSION" ]] || return 1
    [[ -z $(unresolved "$1/lib/libtorch_cpu.so") ]] || return 1
    wants_cuda || return 0
    cuda_complete "$1"
}

# libcuda.so.1 belongs to the driver, not to the wheels.
cuda_complete() {
    [[ -e $1/lib/libtorch_cuda.so ]] && ! unresolved "$1/lib/libtorch_cuda.so" | grep -qv '^libcuda\.so'
}

unresolved() { ldd "$1" 2>/dev/null | awk '/=> not found/ { print $1 }'; }

install_libtorch() {
    if wants_cuda; then
        say "libtorch $TORCH_VERSION with CUDA: a large download, 4.6 GB on disk"
        room_for 10 && install_wheels "torch==$TORCH_VERSION" || return 0
    else
        say "libtorch $TORCH_VERSION for CPU: 0.5 GB to download, 1.2 GB on disk"
        room_for 3 && install_wheels --no-deps "torch==$TORCH_VERSION" \
            "nvidia-cuda-runtime==$CUDA_RUNTIME_WHEEL" "nvidia-cuda-cupti==$CUDA_CUPTI_WHEEL" || return 0
    fi
    met libtorch
    find_libtorch
}

room_for() {
    local free
    free=$(df -Pk "$ROOT" | awk 'NR == 2 { print int($4 / 1048576) }')
    ((free >= $1)) || die "$free GB free in $ROOT, need about $1 GB for libtorch; .venv may be a link to a folder on a larger disk"
}

# Links every library that libtorch_cpu.so needs beside it: for the loader, `$ORIGIN` is the folder of the link, so the
# relative paths of the wheel to the CUDA wheels are wrong.
link_libtorch() {
    local name
    mkdir -p "$VIEW/lib"
    link "$TORCH_HOME/include" "$VIEW/include"
    for name in libtorch_cpu.so libc10.so; do link "$TORCH_HOME/lib/$name" "$VIEW/lib/$name"; done
    ln -sfn libtorch_cpu.so "$VIEW/lib/libtorch.so"
    for name in "$TORCH_HOME"/lib/libgomp*.so*; do
        [[ -e $name ]] && link "$name" "$VIEW/lib/${name##*/}"
    done
    remove_stale_links
    link_needed
    check_view
    found libtorch "$(torch_version "$TORCH_HOME"), $(shown "$TORCH_HOME"), $(cuda_shown)"
}

# Removes links of another libtorch, and files that were added manually.
remove_stale_links() {
    local file home
    home=$(readlink -f "$TORCH_HOME/..")
    rm -f "$VIEW/lib/libtorch_cuda.so"
    for file in "$VIEW"/lib/*; do
        [[ $(readlink -f "$file") == "$home"/* ]] || rm -f "$file"
    done
}

link_needed() {
    local name source progress=yes
    while [[ $progress == yes ]]; do
        progress=no
        for name in $(unresolved "$VIEW/lib/libtorch_cpu.so"); do
            source=$(first_existing "$TORCH_HOME/lib/$name" "$TORCH_HOME"/../nvidia/*/lib/"$name") || continue
            link "$source" "$VIEW/lib/$name"
            progress=yes
        done
    done
}

check_view() {
    local left complaint
    left=$(unresolved "$VIEW/lib/libtorch_cpu.so")
    [[ -z $left ]] || die "$TORCH_HOME/lib/libtorch_cpu.so needs libraries that are missing: ${left//$'\n'/, }"
    # A system that is too old fails here: "version `GLIBC_2.28' not found".
    complaint=$(ldd "$VIEW/lib/libtorch_cpu.so" 2>&1 >/dev/null || true)
    [[ -z $complaint ]] || die "libtorch does not fit this system: $(head -n 1 <<<"$complaint")"
}

cuda_shown() {
    if cuda_complete "$TORCH_HOME"; then echo "CPU and CUDA"; else echo "CPU only"; fi
}
