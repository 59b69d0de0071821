"""Build the source distribution and the wheels, and use each with NumPy alone: `make wheels`.

From a copy of the working tree without what git ignores: an sdist, from it a wheel per interpreter,
and the wheel in a fresh environment. A wheel for the stable ABI is tried on later interpreters too.

    wheels.py [python3.12 ...]
"""

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from builds import BUILD, ROOT, pip, run

HOME = BUILD / "wheels"
USUAL = ["python3.11", "python3.12", "python3.13"]
NEEDED = [
    *("csrc/CMakeLists.txt", "csrc/bindings.cpp", "src/wsss/densecrf/__init__.py", "README.md"),
    "recipes/synthetic_cam.yaml",
]
STRAY = ["data", "models", "reports", "build", "dist", ".git", ".dvc", ".venv", "mlruns"]

USE = """
import importlib.metadata as metadata, sys
import numpy as np
import wsss.densecrf as dcrf, wsss.densecrf.utils, wsss.densecrf.reference
from wsss.densecrf import _native
assert "site-packages" in dcrf.__file__, dcrf.__file__
rng = np.random.default_rng(0)
image = np.repeat(rng.integers(0, 256, (1, 40, 3), dtype=np.uint8), 30, axis=0)
probs = rng.dirichlet([1, 1, 1], (30, 40)).transpose(2, 0, 1).astype(np.float32)
refined = dcrf.dense_crf([image] * 3, [probs] * 3, n_iters=3, num_threads=2)
np.testing.assert_allclose(refined[2].sum(axis=0), 1, atol=1e-5)
crf = dcrf.DenseCRF2D(40, 30, 3, parity=False)
crf.setUnaryEnergy(-np.log(np.maximum(probs, 1e-5)).reshape(3, -1))
crf.addPairwiseGaussian(3, 3)
crf.addPairwiseBilateral(80, 13, image, 10)
np.testing.assert_allclose(crf.inference(3), refined[0].reshape(3, -1), atol=1e-5)
heavy = {"torch", "mlflow", "pydantic", "scipy", "skimage"} & set(sys.modules)
assert not heavy, heavy
installed = {d.name.lower() for d in metadata.distributions()} - {"pip", "setuptools"}
assert installed == {"numpy", "wsss"}, installed
print("ok with NumPy", np.__version__, "on", *_native.instruction_sets())
"""


def main(names: list[str]) -> None:
    """Build and try on these interpreters, or the usual ones.

    Raises:
        SystemExit: one is missing, or something fails.
    """
    interpreters = {name: find_interpreter(name) for name in names or USUAL}
    missing = [name for name, path in interpreters.items() if path is None]
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    sdist = build_sdist(copy_tree())
    check_sdist(sdist)
    stable: list[Path] = []
    for name, path in interpreters.items():
        if path is None:
            continue
        wheel = build_wheel(path, name, sdist)
        check_wheel(wheel)
        try_wheel(path, name, wheel)
        for earlier in stable:
            try_wheel(path, name, earlier)
        if "-abi3-" in wheel.name:
            stable.append(wheel)
    if missing:
        raise SystemExit(f"not tried, for want of an interpreter: {', '.join(missing)}")


def find_interpreter(name: str) -> Path | None:
    """An interpreter by this name on the path, or known to pyenv or uv; one that runs."""
    version = name.removeprefix("python")
    candidates = [shutil.which(name)]
    for command in (
        ["pyenv", "prefix", version],
        [sys.executable, "-m", "uv", "python", "find", version],
        ["uv", "python", "find", version],
    ):
        if Path(command[0]).is_absolute() or shutil.which(command[0]):
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = found.stdout.split()
            if found.returncode == 0 and lines:
                at = Path(lines[0])
                candidates.append(str(at / "bin" / "python3" if at.is_dir() else at))
    for candidate in candidates:
        if candidate is None or not Path(candidate).exists():
            continue
        code = "import sys, venv, ensurepip; print('python%d.%d' % sys.version_info[:2])"
        said = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if said.returncode == 0 and (said.stdout.strip() == name or name == candidate):
            return Path(candidate)
    return None


def copy_tree() -> Path:
    """The working tree as git sees it, uncommitted changes and new files included."""
    tree = HOME / "tree"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def build_sdist(tree: Path) -> Path:
    """Build the sdist, and on the way a wheel from it, as `python -m build` does."""
    run([*pip(), "install", "--upgrade", "build"])
    command = [*pip()[:1], "-m", "build", "--outdir", str(HOME / "dist"), str(tree)]
    done = subprocess.run(command, env=one_job(), check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    (sdist,) = (HOME / "dist").glob("*.tar.gz")
    print(f"{sdist.name}: {sdist.stat().st_size / 1e3:.0f} kB", flush=True)
    return sdist


def check_sdist(sdist: Path) -> None:
    """It has what it takes to build, and nothing that a run leaves behind."""
    with tarfile.open(sdist) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers()}
    absent = [name for name in NEEDED if name not in names]
    stray = sorted(name for name in names if name.split("/")[0] in STRAY)
    assert not absent, f"the sdist lacks {absent}"
    assert not stray, f"the sdist has {stray}"


def build_wheel(python: Path, name: str, sdist: Path) -> Path:
    """`pip wheel` of the sdist in a fresh environment."""
    environment = fresh(python, f"{name}_build")
    into = HOME / f"dist_{name}"
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={into}", str(sdist)]
    run([str(environment), *command], one_job())
    (wheel,) = into.glob("*.whl")
    return wheel


def check_wheel(wheel: Path) -> None:
    """Its files are ours, whole, and all of them are listed."""
    with zipfile.ZipFile(wheel) as archive:
        files = {n for n in archive.namelist() if not n.endswith("/")}
        (record,) = (n for n in files if n.endswith(".dist-info/RECORD"))
        rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
        assert {row[0] for row in rows} == files, "RECORD lists other files than there are"
        for name, digest, size in rows:
            if name == record:
                continue
            content = archive.read(name)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            assert digest == "sha256=" + hashed.rstrip("="), f"RECORD is wrong on {name}"
            assert int(size) == len(content), f"RECORD is wrong on {name}"
        unpacked = sum(info.file_size for info in archive.infolist())
    tops = {name.split("/")[0] for name in files}
    assert tops == {"wsss", record.split("/")[0]}, f"the wheel has {tops}"
    (native,) = (n for n in files if Path(n).name.startswith("_native.") and not n.endswith(".pyi"))
    assert "wsss/densecrf/_native.pyi" in files, "the wheel has no stub"
    print(
        f"{wheel.name}: {wheel.stat().st_size / 1e3:.0f} kB, {unpacked / 1e3:.0f} kB unpacked, "
        f"{len(files)} files; {native}",
        flush=True,
    )


def try_wheel(python: Path, name: str, wheel: Path) -> None:
    """Install it into a fresh environment, and use it away from the source."""
    environment = fresh(python, f"{name}_use")
    run([str(environment), "-m", "pip", "install", "--quiet", str(wheel)], one_job())
    away = HOME / "elsewhere"
    away.mkdir(exist_ok=True)
    command = [str(environment), "-c", USE]
    done = subprocess.run(command, cwd=away, env=one_job(), check=False, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{wheel.name} does not work on {name}")
    print(f"  {wheel.relative_to(HOME)} works on {name}", flush=True)


def fresh(python: Path, name: str) -> Path:
    """The interpreter of a new environment."""
    at = HOME / "environments" / name
    run([str(python), "-m", "venv", "--clear", str(at)])
    return at / "bin" / "python"


def one_job() -> dict[str, str]:
    """This environment, with one compiler at a time and no way to the source."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {"CMAKE_BUILD_PARALLEL_LEVEL": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **kept}


if __name__ == "__main__":
    main(sys.argv[1:])
