"""Stages in two processes that are killed at any time, and over two nodes on one machine.

Nothing may be lost or doubled: what a killed run and the next one make together has the bytes of an
undisturbed one, and is one run in MLflow.
"""

import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from wsss.artifacts import Paths
from wsss.config.params import parse_params
from wsss.stages import find_stages, run_stage

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

NETWORK: dict[str, Any] = {
    "batch_size": 4,
    "epochs": 2,
    "augment": {"crop_size": 32, "long_side": [32, 40]},
    "eval_long_side": 32,
}
BACKBONE = {"backbone": {"model_name": "resnet10t"}}
VALUES: dict[str, Any] = {
    # the state is kept after every step, so that a kill comes between two of them
    "machine": {"accelerator": "cpu", "num_workers": 0, "devices": 2, "checkpoint_minutes": 1e-9},
    "prepare_data": {
        "dataset": {"name": "synthetic", "num_train": 40, "num_val": 12, "image_size": [48, 64]},
        "selection_share": 0.2,
    },
    "train_teachers": {"teacher": NETWORK | BACKBONE | {"epochs": 1}},
    "train_classifier": NETWORK | BACKBONE | {"method": {"name": "subcategory", "rounds": 1}},
    "generate_cams": {"scales": [1.0], "batch_size": 4},
    "further_cams": {"more": {"scales": [0.5]}},
    "train_affinities": {"near": {"epochs": 1, "method": {"name": "psa", "radius": 2}}},
    "refine": {"chains": {"crf": [{"name": "dense_crf", "n_iters": 2}]}},
    "make_pseudo_masks": {"threshold": 0.3},
    "train_segmenter": NETWORK | {"ema_decay": 0.9},
    "predict_masks": {"scales": [1.0], "splits": ["selection", "val"]},
}
STAGES = (
    "train_teachers",
    "train_classifier",
    "generate_cams",
    "generate_further_cams",
    "train_affinities",
    "refine_cams@crf",
    "evaluate_refined@crf",
    "make_pseudo_masks",
    "train_segmenter",
    "predict_masks",
)
WITH_DEVICES = [
    name for name in STAGES if name not in ("evaluate_refined@crf", "make_pseudo_masks")
]


def started(command: list[str], root: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    said = (root / f"said.{time.monotonic_ns()}").open("w+")
    return subprocess.Popen(command, cwd=root, env=environment, stderr=said, text=True)


def stage_alone(stage: str) -> list[str]:
    return [sys.executable, "-m", "wsss.stages", *stage.split("@")]


def on_nodes(stage: str, nodes: int = 2, processes: int = 1) -> list[list[str]]:
    """The command of each node."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--nnodes", str(nodes), "--master-addr", "127.0.0.1", "--master-port", str(port)]
    run = [sys.executable, "-m", "torch.distributed.run", *where]
    processes_here = ["--nproc-per-node", str(processes), "-m", "wsss.stages", *stage.split("@")]
    return [[*run, "--node-rank", str(node), *processes_here] for node in range(nodes)]


def said(root: Path) -> str:
    """What all processes have said so far."""
    texts = [path.read_text() for path in sorted(root.glob("said.*"))]
    return " ".join(" ".join(texts).split())


def ranks(launchers: list[int]) -> dict[int, int]:
    """Process ids by rank, of those that launchers have started."""
    found = {}
    for launcher in launchers:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        for child in children:
            try:
                lines = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            except OSError:  # it was a short one
                continue
            number = [line[5:] for line in lines if line.startswith(b"RANK=")]
            if number:
                found[int(number[0])] = int(child)
    return found


def wait_for_ranks(launchers: "list[subprocess.Popen[str]]", count: int) -> dict[int, int]:
    while len(found := ranks([launcher.pid for launcher in launchers])) < count:
        assert all(launcher.poll() is None for launcher in launchers)
        time.sleep(0.01)
    return found


def wait_for_work(root: Path, stage: str, nodes: "list[subprocess.Popen[str]]") -> None:
    """Until processes that have found one another work on what a stage makes."""
    params = parse_params(VALUES)
    out = root / find_stages().target(stage, params).outs(params)[0]
    while not list(out.parent.glob(f".{out.name}*/.work.*")):
        assert all(node.poll() is None for node in nodes), said(root)
        time.sleep(0.01)


def made(root: Path, stage: str) -> dict[str, str]:
    """Hashes of what a stage makes: its outs and its report, and of nothing else."""
    params = parse_params(VALUES)
    target = find_stages().target(stage, params)
    files = [Paths(root).report(target.report)]
    for out in target.outs(params):
        files += [file for file in (root / out).rglob("*") if file.is_file()]
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if file.name != ".fingerprint.json"
    }


def without(finished: Path, folder: Path, stage: str) -> Path:
    """A copy of a finished project in which a stage has not run yet, nor anything in MLflow."""
    root = folder / "root"
    shutil.copytree(finished, root, ignore=shutil.ignore_patterns("said.*", "mlflow.db"))
    params = parse_params(VALUES)
    for out in find_stages().target(stage, params).outs(params):
        shutil.rmtree(root / out)
    for file in (root / "reports").glob(f"{stage.replace('@', '_')}*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    return root


def runs_in_mlflow(root: Path) -> list[str]:
    with sqlite3.connect(root / "mlflow.db") as database:
        return [row[0] for row in database.execute("select status from runs")]


def left_over(root: Path) -> list[str]:
    known = {".fingerprint.json", ".empty"}
    return [str(path) for path in root.rglob(".*") if path.name not in known]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which all stages have run undisturbed, in two processes where they may."""
    root = tmp_path_factory.mktemp("devices")
    (root / "params.yaml").write_text(yaml.safe_dump(VALUES))
    run_stage("prepare_data", parse_params(VALUES), Paths(root))
    for stage in STAGES:
        assert started(stage_alone(stage), root).wait(600) == 0, said(root)
    return root


def test_the_matrix_has_every_stage_that_several_processes_run() -> None:
    stages = {stage.name for stage in find_stages().stages if stage.devices}
    assert {name.partition("@")[0] for name in WITH_DEVICES} == stages


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("seconds", [0.5, 3.0, 6.0, 9.0])
@pytest.mark.parametrize("stage", WITH_DEVICES)
def test_a_kill_at_any_time_loses_and_doubles_nothing(
    finished: Path, tmp_path: Path, stage: str, seconds: float, lost: int
) -> None:
    root = without(finished, tmp_path, stage)
    launcher = started(stage_alone(stage), root)
    member = wait_for_ranks([launcher], 2)[lost]
    time.sleep(seconds)
    try:
        os.kill(member, signal.SIGKILL)
    except ProcessLookupError:
        pytest.skip("it was done before")
    code = launcher.wait(60)
    if code:
        assert code == 1
        assert f"process {lost + 1} of 2 was killed (SIGKILL)" in said(root)
        assert "Traceback" not in said(root)
        assert started(stage_alone(stage), root).wait(600) == 0, said(root)
    assert made(root, stage) == made(finished, stage)
    assert left_over(root) == []
    assert runs_in_mlflow(root).count("FINISHED") == 1


@pytest.mark.parametrize("stage", ["train_classifier", "generate_cams", "make_pseudo_masks"])
def test_two_nodes_make_what_two_devices_make(finished: Path, tmp_path: Path, stage: str) -> None:
    root = without(finished, tmp_path, stage)
    (root / "params.yaml").write_text(
        yaml.safe_dump(VALUES | {"machine": VALUES["machine"] | {"devices": 1}})
    )
    nodes = [started(command, root) for command in on_nodes(stage)]
    assert [node.wait(600) for node in nodes] == [0, 0], said(root)
    assert made(root, stage) == made(finished, stage)
    assert left_over(root) == []
    assert runs_in_mlflow(root) == ["FINISHED"]


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize(
    ("stage", "seconds"),
    [("train_segmenter", 0.0), ("train_segmenter", 3.0), ("refine_cams@crf", 0.0)],
)
def test_a_node_whose_partner_is_lost_ends_and_the_rerun_goes_on(
    finished: Path, tmp_path: Path, stage: str, seconds: float, lost: int
) -> None:
    """The launcher of the other node knows nothing of it. Seconds are those of work together."""
    root = without(finished, tmp_path, stage)
    (root / "params.yaml").write_text(
        yaml.safe_dump(VALUES | {"machine": VALUES["machine"] | {"devices": 1}})
    )
    nodes = [started(command, root) for command in on_nodes(stage)]
    members = wait_for_ranks(nodes, 2)
    wait_for_work(root, stage, nodes)
    time.sleep(seconds)
    at = time.monotonic()
    try:
        os.kill(members[lost], signal.SIGKILL)
    except ProcessLookupError:
        pytest.skip("it was done before")
    os.kill(nodes[lost].pid, signal.SIGKILL)  # as if the node were off
    codes = [node.wait(120) for node in nodes]
    assert time.monotonic() - at < 60
    assert codes[1 - lost] == 1, said(root)
    nodes = [started(command, root) for command in on_nodes(stage)]
    assert [node.wait(600) for node in nodes] == [0, 0], said(root)
    assert made(root, stage) == made(finished, stage)
    assert left_over(root) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 99)])
def test_a_stop_signal_keeps_the_step(
    finished: Path, tmp_path: Path, number: int, code: int
) -> None:
    """Sent to the process that started the others."""
    stage = "train_segmenter"
    root = without(finished, tmp_path, stage)
    launcher = started(stage_alone(stage), root)
    checkpoint = root / "models/.segmenter.partial/.work.last.pt"
    while not checkpoint.exists():
        assert launcher.poll() is None, said(root)
        time.sleep(0.01)
    launcher.send_signal(number)
    assert launcher.wait(120) == code
    assert "train_segmenter was stopped by SIG" in said(root)
    assert "steps of epoch" in said(root) or "epochs 1 to" in said(root)
    assert started(stage_alone(stage), root).wait(600) == 0, said(root)
    assert made(root, stage) == made(finished, stage)


def test_torchrun_and_machine_devices_that_disagree_are_refused(
    finished: Path, tmp_path: Path
) -> None:
    root = without(finished, tmp_path, "generate_cams")
    (command,) = on_nodes("generate_cams", nodes=1, processes=1)
    assert started(command, root).wait(120) == 1
    assert "machine.devices is 2, but the launcher has started 1 processes" in said(root)
