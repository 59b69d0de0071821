"""Every stage with its files packed: the same bytes of each image as without, whatever happens."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsss import progress
from wsss.artifacts import Manifest, Paths, file_names, filling, read_bytes, shards
from wsss.cli.app import app
from wsss.config.params import parse_params
from wsss.stages import run_stage

NETWORK: dict[str, Any] = {
    "batch_size": 4,
    "epochs": 1,
    "augment": {"crop_size": 32, "long_side": [32, 40]},
    "eval_long_side": 32,
}
VALUES: dict[str, Any] = {
    "machine": {"accelerator": "cpu", "num_workers": 0},
    "prepare_data": {
        "dataset": {"name": "synthetic", "num_train": 30, "num_val": 8, "image_size": [48, 64]},
        "selection_share": 0.2,
        "pixel_labels": 6,
        "point_labels": 9,
        "pack_above": 20,
    },
    "train_classifier": NETWORK | {"backbone": {"model_name": "resnet10t"}},
    "generate_cams": {"scales": [1.0], "batch_size": 4},
    "further_cams": {"more": {"scales": [0.5]}},
    "make_proposals": {
        "regions": {"name": "superpixels", "slic_segments": [20], "felzenszwalb_scales": []}
    },
    "train_affinities": {"near": {"epochs": 1, "method": {"name": "psa", "radius": 2}}},
    "refine": {
        "chains": {
            "crf": [
                {"name": "dense_crf", "n_iters": 2},
                {"name": "regions", "proposals": "regions", "rule": "vote"},
                {"name": "fusion", "sources": {"more": 1}},
            ]
        }
    },
    "make_pseudo_masks": {"threshold": "selected"},
    "train_segmenter": NETWORK,
    "predict_masks": {"scales": [1.0], "splits": ["selection", "val"]},
}
STAGES = (
    "prepare_data",
    "make_proposals",
    "train_classifier",
    "generate_cams",
    "generate_further_cams",
    "train_affinities",
    "refine_cams@crf",
    "evaluate_cams",
    "evaluate_refined@crf",
    "make_pseudo_masks",
    "train_segmenter",
    "predict_masks",
    "evaluate_segmenter",
)
FOLDERS = {
    "data/annotations/masks": 1,
    "data/annotations/partial/seeds": 1,
    "data/cams": 4,
    "data/further_cams/more": 4,
    "data/images": 4,
    "data/masks": 4,
    "data/predictions/selection": 1,
    "data/predictions/val": 1,
    "data/proposals/regions": 4,
    "data/pseudo_masks": 4,
    "data/refined/crf": 4,
}
"""What stages make of images, and how many shards that has."""


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "PER_SHARD", 8)
        patch.setattr(filling, "AT_ONCE", 2)
        yield


def values(**prepare: Any) -> dict[str, Any]:
    return VALUES | {"prepare_data": VALUES["prepare_data"] | prepare}


BARS: dict[str, list[tuple[str, str, int | None, int]]] = {}
"""What each project of `both` showed: stage, what was done, of how many, and how many of these."""


def run_all(root: Path, **prepare: Any) -> Paths:
    params, paths = parse_params(values(**prepare)), Paths(root)
    shown = BARS.setdefault(root.name, [])
    with pytest.MonkeyPatch.context() as patch:

        @contextmanager
        def noted(description: str, *arguments: Any, **named: Any) -> Iterator[progress._Bar]:
            with bar_of(description, *arguments, **named) as bar:
                yield bar
            shown.append((stage, description, bar.total, bar.done))

        bar_of = progress._bar
        patch.setattr(progress, "_bar", noted)
        for stage in STAGES:
            run_stage(stage, params, paths)
    return paths


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Paths, Paths]:
    """A project whose files lie by themselves, and one with shards."""
    root = tmp_path_factory.mktemp("both")
    return run_all(root / "single", pack_above=1000), run_all(root / "packed")


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of an image, wherever it lies."""
    return {
        name: hashlib.sha256(read_bytes(folder / name)).hexdigest() for name in file_names(folder)
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_image_has_the_same_bytes(both: tuple[Paths, Paths], folder: str) -> None:
    single, packed = (paths.root / folder for paths in both)
    assert hashes(single) == hashes(packed) and file_names(single)
    lying = sorted(path.relative_to(packed).as_posix() for path in packed.rglob("*"))
    names = [shards.shard_file(at) for at in range(FOLDERS[folder])]
    beside = {".fingerprint.json", "report.json"}  # of a named entry
    assert [name for name in lying if name not in beside] == [*names, "shards.json"]


def test_reports_are_the_same(both: tuple[Paths, Paths]) -> None:
    reports = [
        {path.name: path.read_bytes() for path in (paths.root / "reports").glob("*.json")}
        for paths in both
    ]
    assert reports[0] == reports[1] and len(reports[0]) == len(STAGES)
    manifests = [Manifest.read(paths.splits) for paths in both]
    assert [manifest.packed for manifest in manifests] == [False, True]
    assert manifests[0].splits == manifests[1].splits


@pytest.mark.usefixtures("both")
def test_how_far_work_is_gets_told_of_all_parts_together() -> None:
    assert BARS["packed"] == BARS["single"]
    assert ("refine_cams@crf", "refine crf", 38, 38) in BARS["packed"]
    assert all(total == done for *_, total, done in BARS["packed"])


RUN = """
import sys
from pathlib import Path
from wsss.artifacts import Paths, shards
from wsss.config.params import load_params
from wsss.stages import run_stage

shards.PER_SHARD = 8
root = Path(sys.argv[1])
run_stage(sys.argv[2], load_params(root / "params.yaml"), Paths(root))
"""


def started(root: Path, stage: str, **environment: str) -> subprocess.Popen[bytes]:
    (root / "params.yaml").write_text(json.dumps(values()))
    command = [sys.executable, "-c", RUN, str(root), stage]
    return subprocess.Popen(command, env=os.environ | environment)


def tree(folder: Path) -> dict[str, bytes]:
    """Files by name, but for the key under which an entry was made: its inputs were not packed."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".fingerprint.json"
    }


@pytest.fixture
def copy(both: tuple[Paths, Paths], tmp_path: Path) -> Paths:
    """The packed project again, without the refined maps."""
    shutil.copytree(both[1].root, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/data/refined")
    return Paths(tmp_path / "copy")


def test_two_processes_make_the_same_shards(both: tuple[Paths, Paths], copy: Paths) -> None:
    processes = [
        started(copy.root, "refine_cams@crf", RANK=str(at), WORLD_SIZE="2") for at in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert tree(copy.refined("crf")) == tree(both[1].refined("crf"))


def test_after_kill_9_a_stage_goes_on_and_makes_the_same_shards(
    both: tuple[Paths, Paths], copy: Paths
) -> None:
    partial = copy.root / "data/refined/.crf.partial"
    process = started(copy.root, "refine_cams@crf")
    while process.poll() is None and len(list(partial.glob("*.npz"))) < 5:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = tree(partial)
    assert 5 <= sum(name.endswith(".npz") for name in held) <= 38
    run_stage("refine_cams@crf", parse_params(values()), copy)
    assert tree(copy.refined("crf")) == tree(both[1].refined("crf"))


def test_a_damaged_shard_stops_a_stage_and_says_what_to_run(
    copy: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy.root)
    (copy.root / ".dvc").mkdir()
    shard = copy.cams / shards.shard_file(2)
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    said = r"data/cams/00002\.zip is cut short.*run `dvc checkout --force data/cams`"
    with pytest.raises(ValueError, match=said):
        run_stage("refine_cams@crf", parse_params(values()), Paths(Path()))


def test_commands_convert_a_project(
    both: tuple[Paths, Paths], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(both[0].root, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    said = CliRunner().invoke(app, ["pack"], catch_exceptions=False).output
    assert "data/cams: 38 files packed" in said
    assert said.endswith("wsss set prepare_data.pack_above=0\n  wsss run --commit\n")
    Path(".dvc").mkdir()
    said = CliRunner().invoke(app, ["pack"], catch_exceptions=False).output
    assert said.endswith("wsss set prepare_data.pack_above=0\n  dvc commit --force\n")
    for folder in FOLDERS:
        assert tree(Path(folder)) == tree(both[1].root / folder)
    assert Manifest.read(Paths(Path()).splits).packed
    said = CliRunner().invoke(app, ["pack"], catch_exceptions=False).output
    assert "data/cams: nothing to do" in said
    said = CliRunner().invoke(app, ["unpack", "data/cams"], catch_exceptions=False).output
    assert said == "data/cams: 38 files unpacked\n"
    said = CliRunner().invoke(app, ["unpack"], catch_exceptions=False).output
    assert "wsss set prepare_data.pack_above=380" in said
    for folder in (*FOLDERS, "data/splits"):
        assert tree(Path(folder)) == tree(both[0].root / folder)


def test_a_folder_that_is_none_cannot_be_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["pack", "elsewhere"])
    assert found.exit_code == 1
