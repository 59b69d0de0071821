"""The worker's image, built by buildah on a base of debootstrap, and its entry point run.

No daemon and no registry of images are needed, but root. torch and what else is large is left out:
the image is what is tried here, and the pipeline elsewhere.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wsss.export import export_model

from .mlflow_server import ROOT
from .postgres_server import install

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(3000)]

SPACE = 8e9  # bytes; a few are left in the end
SMALL = ("dvc", "filelock", "numpy", "pillow", "pydantic", "pyyaml", "rich", "typer")
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

Buildah = Callable[..., str]


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    """Runs buildah with a storage of its own; gives what it printed."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to build an image without a daemon")
    for program in ("buildah", "debootstrap"):
        if shutil.which(program) is None and (why := install("buildah", "debootstrap")):
            pytest.skip(f"needs {program}: {why}")
    folder = Path(tempfile.mkdtemp(prefix="wsss-images-"))
    if shutil.disk_usage(folder).free < SPACE:
        pytest.skip(f"needs {SPACE / 1e9:.0f} GB of space in {folder}")

    def run(*arguments: str | Path) -> str:
        storage = ["--storage-driver=vfs", f"--root={folder}/root", f"--runroot={folder}/run"]
        done = subprocess.run(
            ["buildah", *storage, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": str(folder), "BUILDAH_ISOLATION": "chroot"},
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    try:
        yield run
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def base(buildah: Buildah) -> str:
    """A Debian, as little of it as there is."""
    found = re.search(r"(?m)^URIs: *(\S+)", SOURCES.read_text()) if SOURCES.exists() else None
    with tempfile.TemporaryDirectory(prefix="wsss-debian-") as folder:
        command = ["debootstrap", "--variant=minbase", "bookworm", f"{folder}/root"]
        done = subprocess.run(
            [*command, *([found[1]] if found else [])], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"debootstrap makes no Debian here: {done.stdout[-300:]}")
        container = buildah("from", "scratch").strip()
        buildah("add", container, f"{folder}/root", "/")
    buildah("commit", "--rm", container, "localhost/base")
    return "localhost/base"


def context(folder: Path) -> Path:
    """The files of the repository, with the small ones of its requirements."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    pins = (ROOT / "requirements.txt").read_text().splitlines()
    small = [line for line in pins if re.split("[=;]", line)[0].strip() in SMALL]
    assert len({re.split("[=;]", line)[0] for line in small}) == len(SMALL)
    (folder / "requirements.txt").write_text("\n".join(small) + "\n")
    return folder


@pytest.fixture(scope="module")
def built(
    buildah: Buildah, base: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Builds docker/NAME.Dockerfile; gives a container of it."""
    folder = tmp_path_factory.mktemp("images")
    # how this machine reaches its packages; the image keeps none of it
    (folder / "pip.conf").write_text("[global]\ncert = /run/certificates\n")
    places = {"/etc/apt/apt.conf.d": "/etc/apt/apt.conf.d"}
    if CERTIFICATES.exists():
        places |= {str(CERTIFICATES): "/run/certificates", f"{folder}/pip.conf": "/etc/pip.conf"}
    files = context(folder / "context")

    def build(name: str) -> str:
        buildah(
            "bud",
            *[f"--volume={here}:{there}:ro" for here, there in places.items()],
            f"--build-arg=BASE={base}",
            f"--file={ROOT / f'docker/{name}.Dockerfile'}",
            f"--tag=localhost/{name}",
            files,
        )
        return buildah("from", f"localhost/{name}").strip()

    return build


def test_the_worker_is_built_and_its_entry_point_runs(
    buildah: Buildah, built: Callable[[str], str]
) -> None:
    container = built("worker")
    assert buildah("run", container, "--", "id", "-u").strip() == "10001"
    assert "Usage" in buildah("run", container, "--", "wsss", "--help")
    said = buildah("run", container, "--", "dvc", "repro", "--dry", "--force")
    assert "Running stage 'prepare_data'" in said
    held = buildah("run", container, "--", "find", "/workspace", "-maxdepth", "1")
    assert {Path(line).name for line in held.split()} >= {"dvc.yaml", "params.yaml", "recipes"}
    assert not {Path(line).name for line in held.split()} & {".git", "docker", "tests", ".env"}
    buildah("run", container, "--", "touch", "/workspace/data/written")


ASK = """
import io, subprocess, sys, time, urllib.error, urllib.request
import numpy as np
from PIL import Image

server = subprocess.Popen([*sys.argv[1:], "--port", "8080"])
stripes = np.zeros((64, 96, 3), np.uint8)
stripes[:, :32, 0] = stripes[:, 32:64, 2] = stripes[:, 64:, 1] = 255
file = io.BytesIO()
Image.fromarray(stripes).save(file, "PNG")
for _ in range(600):
    try:
        urllib.request.urlopen("http://127.0.0.1:8080/health").close()
        break
    except urllib.error.URLError:
        assert server.poll() is None
        time.sleep(0.1)
ask = urllib.request.Request("http://127.0.0.1:8080/predict", file.getvalue())
try:
    urllib.request.urlopen(ask)
except urllib.error.HTTPError as refused:
    print("without a token", refused.code)
ask.add_header("Authorization", "Bearer the-token-of-this-image")
with urllib.request.urlopen(ask) as answer:
    mask = np.asarray(Image.open(io.BytesIO(answer.read())))
print("mask", mask[32, [16, 48, 80]].tolist())
server.terminate()
"""


def test_the_server_is_built_and_answers_with_a_mask(
    buildah: Buildah,
    built: Callable[[str], str],
    colour_segmenter: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Of a model in an .onnx file, as the base here has no room for PyTorch."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"needs {name}: pip install '.[onnx]'")
    folder, model = colour_segmenter(tmp_path), tmp_path / "model"
    model.mkdir()
    export_model(folder, model / "colours.onnx")
    (model / "token").write_text("the-token-of-this-image\n")
    (model / "ask.py").write_text(ASK)
    container = built("serve")
    assert buildah("run", container, "--", "id", "-u").strip() == "10003"
    (stated,) = re.findall(r"(?m)^CMD (.+)", (ROOT / "docker/serve.Dockerfile").read_text())
    here = {"/model": "/model/colours.onnx", "/run/secrets/token": "/model/token"}
    command = [here.get(word, word) for word in json.loads(stated)]
    assert command[:2] == ["wsss", "serve"] and set(here.values()) < set(command)
    said = buildah(
        *("run", f"--volume={model}:/model:ro", container, "--", "python", "/model/ask.py"),
        *command,
    )
    assert "without a token 401" in said
    assert "mask [1, 0, 2]" in said
