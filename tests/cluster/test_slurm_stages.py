"""The pipeline's own stages on a Slurm of one node: maps in parts, a training in two processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from wsss.artifacts import Paths
from wsss.config.params import parse_params
from wsss.stages import run_stage

from ..launch.toy_project import files, wait_for
from .slurm_node import SlurmNode

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

VALUES = {
    "machine": {"accelerator": "cpu", "num_workers": 0, "devices": 2},
    "prepare_data": {
        "dataset": {"name": "synthetic", "num_train": 20, "num_val": 4, "image_size": [48, 64]},
        "selection_share": 0.2,
    },
    "train_classifier": {
        "batch_size": 4,
        "epochs": 3,
        "augment": {"crop_size": 32, "long_side": [32, 40]},
        "eval_long_side": 32,
        "backbone": {"model_name": "resnet10t"},
    },
    "generate_cams": {"scales": [1.0], "batch_size": 4},
}
SITE = {
    "engine": "slurm", "partition": "tests", "tasks": 2, "cpus": 2, "gpus": 0, "poll": 1.0,
    "time": "0:20:00",
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("submitit", reason="needs submitit: pip install '.[slurm]'")
    root = tmp_path_factory.mktemp("prepared")
    (root / "params.yaml").write_text(yaml.safe_dump(VALUES))
    (root / "config.local.yaml").write_text(yaml.safe_dump(SITE))
    run_stage("prepare_data", parse_params(VALUES), Paths(root))
    return root


@pytest.fixture
def started(slurm: SlurmNode) -> Iterator[list["subprocess.Popen[str]"]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()
    slurm.run("scancel", "--user", str(os.getuid()))
    slurm.wait()


def start(root: Path, slurm: SlurmNode, stage: str, **further: str) -> "subprocess.Popen[str]":
    code = (
        "import sys, wsss.tracking; wsss.tracking.has_mlflow = lambda: False\n"
        "from wsss.pipeline.execute import main; from wsss.stages import find_stages\n"
        "main(find_stages(), sys.argv[1:])"
    )
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DVC_STAGE", "WSSS_ENGINE", "WSSS_PARENT", "RANK", "OMP_NUM_THREADS")
    }
    return subprocess.Popen(
        [sys.executable, "-c", code, stage],
        cwd=root,
        env=clean | slurm.environment | further,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, said
    return " ".join(said.split())


def ranks(root: Path, rank: int) -> list[int]:
    """The processes of a project's training with a rank."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes().split(b"\0")
            own = f"RANK={rank}".encode() in environment
            if own and (place / "cwd").resolve() == root.resolve():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def results(root: Path) -> dict[str, bytes]:
    return files(root / "models/classifier") | files(root / "reports")


def test_a_training_whose_process_is_killed_ends_as_an_undisturbed_one(
    prepared: Path,
    tmp_path: Path,
    slurm: SlurmNode,
    started: list["subprocess.Popen[str]"],
) -> None:
    roots = [tmp_path / name for name in ("undisturbed", "disturbed")]
    for root in roots:
        shutil.copytree(prepared, root)
    started.append(process := start(roots[0], slurm, "train_classifier"))
    said = finish(process)
    assert "resuming after epoch 3 of 3" in said, "the first process trained"
    started.append(process := start(roots[1], slurm, "train_classifier"))
    partial = roots[1] / "models/.classifier.partial"
    wait_for(lambda: list(partial.glob(".work.*.pt")) and ranks(roots[1], 1), 600)
    jobs = set(slurm.jobs())
    for pid in ranks(roots[1], 1):
        os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    assert set(slurm.jobs()) == jobs
    assert "resuming after epoch 3 of 3" in finish(process)
    logs = "".join(file.read_text() for file in (roots[1] / ".launch").rglob("*.out"))
    assert "resuming after epoch 1 of 3" in logs or "resuming after epoch 2 of 3" in logs
    alone, other = results(roots[0]), results(roots[1])
    assert alone.keys() == other.keys()
    assert [name for name in alone if alone[name] != other[name]] == []
    curve = (roots[1] / "reports/train_classifier_curve.csv").read_text().splitlines()
    assert len(curve) == 1 + 3

    # and the maps of that classifier, in parts, of which one is killed
    root = roots[0]
    alike = {"WSSS_ENGINE": "inline", "OMP_NUM_THREADS": str(SITE["cpus"])}  # as Slurm sets it
    started.append(process := start(root, slurm, "generate_cams", **alike))
    finish(process)
    by_one = files(root / "data/cams") | files(root / "reports")
    shutil.rmtree(root / "data/cams")
    started.append(process := start(root, slurm, "generate_cams"))
    wait_for(lambda: len(slurm.jobs()) == 2 and "RUNNING" in slurm.jobs().values(), 120)
    running = [job for job, state in slurm.jobs().items() if state == "RUNNING"]
    slurm.run("scancel", "--signal=KILL", running[0])
    assert "started again (1 of 2)" in finish(process)
    assert files(root / "data/cams") | files(root / "reports") == by_one
