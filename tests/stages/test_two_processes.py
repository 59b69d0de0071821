"""Every stage that trains or infers, in two processes: one result, and none is left waiting."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from wsss.artifacts import Paths, read_json
from wsss.config.params import parse_params
from wsss.pipeline.processes import run_together
from wsss.stages import run_stage

NETWORK: dict[str, Any] = {
    "batch_size": 4,
    "epochs": 2,
    "augment": {"crop_size": 32, "long_side": [32, 40]},
    "eval_long_side": 32,
}
BACKBONE = {"backbone": {"model_name": "resnet10t"}}
VALUES: dict[str, Any] = {
    "machine": {"accelerator": "cpu", "num_workers": 0, "devices": 2},
    "prepare_data": {
        "dataset": {"name": "synthetic", "num_train": 30, "num_val": 5, "image_size": [48, 64]},
        "selection_share": 0.2,
    },
    # it clusters features of all training images, which the processes gather
    "train_teachers": {"teacher": {"epochs": 1}},
    "train_classifier": NETWORK | BACKBONE | {"method": {"name": "subcategory", "rounds": 1}},
    "generate_cams": {"scales": [1.0], "batch_size": 4},
    "further_cams": {"more": {"scales": [0.5]}},
    "train_affinities": {"near": {"epochs": 1, "method": {"name": "psa", "radius": 2}}},
    "refine": {"chains": {"crf": [{"name": "dense_crf", "n_iters": 2}]}},
    "make_pseudo_masks": {"threshold": 0.3},
    "train_segmenter": NETWORK,
    "predict_masks": {"scales": [1.0], "splits": ["selection", "val"]},
}
STAGES = (
    "train_teachers",
    "train_classifier",
    "generate_cams",
    "generate_further_cams",
    "train_affinities",
    "refine_cams@crf",
    "make_pseudo_masks",
    "train_segmenter",
    "predict_masks",
)
SHARED = {
    "generate_cams": "data/cams",
    "generate_further_cams": "data/further_cams",
    "refine_cams@crf": "data/refined/crf",
    "predict_masks": "data/predictions",
}
"""Stages whose results do not depend on the number of processes, and what they make."""

BOTH = """
import hashlib, json, sys
from pathlib import Path
from unittest.mock import patch
from wsss.artifacts import Paths
from wsss.config.params import load_params
from wsss.cores import is_first, rank
from wsss.loading.devices import barrier
from wsss.pipeline.processes import end_with_parent
from wsss.stages import run_stage
from wsss.training import affinity, classification, loop, segmentation

end_with_parent()
root = Path(sys.argv[1])
fit, fits = loop.fit, []

def noted(task, model, *args, **kwargs):
    fitted = fit(task, model, *args, **kwargs)
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    fits.append([fitted.epoch, fitted.history, digest.hexdigest()])
    return fitted

for module in (affinity, classification, segmentation):
    module.fit = noted
params = load_params(root / "params.yaml")
for stage in sys.argv[2:]:
    if stage != "make_pseudo_masks":
        run_stage(stage, params, Paths(root))
    elif is_first():  # one process's work
        with patch.dict("os.environ", {"WORLD_SIZE": "1"}):
            run_stage(stage, params, Paths(root))
    barrier()
(root / f"fits.{rank()}.json").write_text(json.dumps(fits))
"""


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".fingerprint.json"
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A project in which two processes did all that they can do together."""
    paths = Paths(tmp_path_factory.mktemp("two"))
    (paths.root / "params.yaml").write_text(yaml.safe_dump(VALUES))
    run_stage("prepare_data", parse_params(VALUES), paths)
    command = [sys.executable, "-c", BOTH, str(paths.root), *STAGES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        assert run_together(command, 2) == 0
    return paths


def test_all_processes_have_the_same_weights_and_history(finished: Paths) -> None:
    first, second = (json.loads((finished.root / f"fits.{at}.json").read_text()) for at in (0, 1))
    assert len(first) == 4, "a teacher, the classifier, an affinity network and the segmenter"
    assert first == second
    for report in ("train_classifier", "train_segmenter"):
        assert (finished.root / f"reports/{report}.json").is_file()
    assert read_json(finished.report("train_classifier"))["best_epoch"] == first[1][0] + 1
    known = {".fingerprint.json", ".empty"}
    left = [path.name for path in finished.root.rglob(".*") if path.name not in known]
    assert left == [], "every folder was moved into place"


@pytest.mark.parametrize("stage", SHARED)
def test_shared_images_give_what_one_process_gives(
    finished: Paths, tmp_path: Path, stage: str
) -> None:
    """The same bytes, as batches are the same, and as many threads add them up; the same report."""
    root = tmp_path / "root"
    shutil.copytree(finished.root, root)
    out = SHARED[stage]
    wanted, report = hashes(root / out), Paths(root).report(stage.replace("@", "_"))
    told = report.read_bytes()
    shutil.rmtree(root / out)
    report.unlink()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run_stage(stage, parse_params(VALUES), Paths(root))
    finally:
        torch.set_num_threads(threads)
    assert hashes(root / out) == wanted and wanted
    assert report.read_bytes() == told


@pytest.fixture
def started(finished: Paths, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """train_classifier in two processes, after its first epoch."""
    root = tmp_path / "root"
    shutil.copytree(finished.root, root)
    shutil.rmtree(root / "models/classifier")
    process = launch(root)
    checkpoint = root / "models/.classifier.partial/.work.round0.pt"
    deadline = time.monotonic() + 240
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    yield process
    if process.poll() is None:
        process.kill()


def launch(root: Path) -> subprocess.Popen[str]:
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "wsss.stages", "train_classifier"]
    return subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True)


def processes_of(launcher: int) -> dict[int, int]:
    """Process ids by rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    found = {}
    for child in children:
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        numbers = [
            variable.partition(b"=")[2] for variable in variables if variable.startswith(b"RANK=")
        ]
        found[int(numbers[0])] = int(child)
    return found


def test_a_killed_process_ends_the_stage_with_a_message_and_the_rerun_goes_on(
    started: subprocess.Popen[str], finished: Paths, tmp_path: Path
) -> None:
    members = processes_of(started.pid)
    assert sorted(members) == [0, 1]
    at = time.monotonic()
    os.kill(members[1], signal.SIGKILL)
    _, said = started.communicate(timeout=60)
    assert time.monotonic() - at < 15
    assert started.returncode == 1
    assert "process 2 of 2 was killed (SIGKILL)" in " ".join(said.split())
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{member}").exists() for member in members.values())
    root = tmp_path / "root"
    assert not (root / "models/classifier").exists()
    again = launch(root)
    _, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert "resuming after epoch" in said
    for file in ("models/classifier/weights.safetensors", "reports/train_classifier.json"):
        assert (root / file).read_bytes() == (finished.root / file).read_bytes(), file


def test_a_mistake_is_said_once(finished: Paths, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(finished.root, root)
    weights = {"backbone": {"model_name": "resnet10t", "weights": "missing.pth"}}
    values = VALUES | {"train_classifier": VALUES["train_classifier"] | weights}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    process = launch(root)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.count("missing.pth does not exist") == 1
    assert "Traceback" not in said
