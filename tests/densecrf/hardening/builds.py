"""The package built with other compilers and flags, each time into a folder of its own.

Such a build runs on the interpreter that the virtual environment stands on, with its packages: in
the environment itself the editable install would come first.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / "hardening"
INTERPRETER: str = getattr(sys, "_base_executable", sys.executable)

IDENTIFY = "import wsss.densecrf._native as n; print(n.__file__, *n.instruction_sets())"


def pip() -> list[str]:
    """A pip whose version the environment does not matter to."""
    tools = BUILD / "tools"
    if not (tools / "bin" / "pip").exists():
        run([INTERPRETER, "-m", "venv", "--clear", str(tools)])
    return [str(tools / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]


def install(name: str, defines: Mapping[str, str], compiler: str | None = None) -> Path:
    """Build the package with CMake's `defines` and return the folder to import it from."""
    site = BUILD / name / "site"
    shutil.rmtree(BUILD / name, ignore_errors=True)
    settings = {
        "build-dir": str(BUILD / name / "objects"),
        "install.strip": "false",
        "cmake.build-type": "RelWithDebInfo",
        # Sanitizers make compilers see what is not there.
        "cmake.define.WSSS_WERROR": "OFF",
        **{f"cmake.define.{key}": value for key, value in defines.items()},
    }
    options = [f"--config-settings={key}={value}" for key, value in settings.items()]
    environment = {"CMAKE_BUILD_PARALLEL_LEVEL": "1", **os.environ}
    if compiler is not None:
        environment["CXX"] = compiler
    run([*pip(), "install", "--no-deps", f"--target={site}", *options, str(ROOT)], environment)
    return site


def environment(
    site: Path, preload: Sequence[Path] = (), path: Sequence[Path] = (), **more: str
) -> dict[str, str]:
    """Variables with which INTERPRETER imports `site`, after runtime libraries that go first."""
    paths = sysconfig.get_paths()
    found = dict.fromkeys([str(site), *map(str, path), paths["purelib"], paths["platlib"]])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(found),
        "LD_PRELOAD": " ".join(map(str, preload)),
        "OMP_NUM_THREADS": "1",
        **more,
    }


def check_import(site: Path, variables: Mapping[str, str]) -> str:
    """The build's instruction sets.

    Raises:
        RuntimeError: another build than that in `site` is imported.
    """
    command = [INTERPRETER, "-c", IDENTIFY]
    out = subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout
    where, *names = out.split()
    if not Path(where).is_relative_to(site):
        raise RuntimeError(f"{where} is imported, and not what is in {site}")
    return ", ".join(names)


def runtime(library: str, compiler: str = "g++") -> Path:
    """A library of the compiler's, such as libasan.so.

    Raises:
        RuntimeError: the compiler has none.
    """
    command = [compiler, f"-print-file-name={library}"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not Path(out).is_absolute():
        raise RuntimeError(f"{compiler} has no {library}; install its sanitizer runtimes")
    return Path(out)


def run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
    """Run a command, to the terminal.

    Raises:
        SystemExit: it fails; with its status.
    """
    status = subprocess.run(command, env=variables, cwd=ROOT, check=False).returncode
    if status != 0:
        raise SystemExit(status)
