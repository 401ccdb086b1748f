"""A root without compiler, MPI and Rust: a Python, the C and C++ libraries, and the folders that a test shows it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# Every system has them: parts of glibc, the C++ library, zlib.
SYSTEM_LIBRARIES = ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"]
SYSTEM_LIBRARIES += ["libstdc++.so.6", "libgcc_s.so.1", "libz.so.1"]


class BareRoot:
    """Runs commands with `folder` as their root. Processes, devices and the network are those of this machine."""

    def __init__(self, folder, visible):
        self.folder = folder
        self.visible = [Path(path).resolve() for path in visible]
        python = Path(sys._base_executable)  # of the virtual environment that runs this, if it is one
        standard = Path(sysconfig.get_path("stdlib")).resolve()
        self._system_folders()
        self._copy([python, python.resolve(), Path("/bin/sh").resolve()])
        self._copy(libraries([python, Path("/bin/sh"), *standard.glob("lib-dynload/*.so")]))
        self._copy(shared_files(SYSTEM_LIBRARIES))
        tools = [Path(shutil.which(name)) for name in ["env", "dirname", "readlink"]]
        self._copy(tools + libraries(tools))
        (folder / "bin/sh").symlink_to(Path("/bin/sh").resolve())
        self.visible.append(standard)

    def _system_folders(self):
        for name in ["etc", "proc", "sys", "dev", "tmp", "usr/bin", "usr/lib", "usr/lib64"]:
            (self.folder / name).mkdir(parents=True)
        for name in ["bin", "lib", "lib64"]:
            if Path("/", name).is_symlink():
                (self.folder / name).symlink_to(f"usr/{name}")
            else:
                (self.folder / name).mkdir()
        for name in ["passwd", "group", "hosts"]:
            shutil.copy(Path("/etc", name), self.folder / "etc")

    def _copy(self, files):
        for file in files:
            target = self.folder / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy(file, target)

    def popen(self, command, environment=None, **options):
        """Starts a command in the root, with an environment of its own."""
        binds = []
        for path in [*self.visible, Path("/proc"), Path("/dev"), Path("/sys")]:
            target = self.folder / path.relative_to("/")
            target.mkdir(parents=True, exist_ok=True)
            binds.append(f"mount --rbind '{path}' '{target}'")
        script = " && ".join([*binds, f"exec chroot '{self.folder}' \"$@\""])
        variables = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8", **(environment or {})}
        outer = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
        inner = [shutil.which("env"), "-i", *(f"{name}={value}" for name, value in variables.items())]
        return subprocess.Popen([*outer, *inner, *map(str, command)], **options)

    def run(self, command, environment=None, timeout=300):
        """Runs a command to its end; returns its exit code and what it wrote to both streams."""
        started = self.popen(
            command, environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        output, _ = started.communicate(timeout=timeout)
        return started.returncode, output


def possible():
    """Whether this machine lets a user make a root of their own."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def libraries(programs):
    """The shared libraries of some programs, by their paths without links in folders."""
    output = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True).stdout
    return [Path(path) for path in sorted(set(re.findall(r"(?:=> |^\t)(/\S+)", output, re.MULTILINE)))]


def shared_files(names):
    """Where the loader finds libraries."""
    ldconfig = shutil.which("ldconfig", path=f"{os.environ['PATH']}:/sbin:/usr/sbin")
    cache = subprocess.run([ldconfig, "-p"], capture_output=True, text=True).stdout
    return [Path(re.search(rf"\t{re.escape(name)} \(.*x86-64.*\) => (\S+)", cache)[1]) for name in names]
