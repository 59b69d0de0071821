"""The stages whose outs are several named folders: killed, resumed, rerun, and what follows."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from wsss.artifacts import Manifest, Paths, Sample, read_json, read_score_map
from wsss.config.params import Params, parse_params
from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.proposals.superpixels import Superpixels, SuperpixelsSettings
from wsss.stages import _cams, make_proposals, run_stage
from wsss.tracking import NullTracker

BACKBONE = BackboneSettings(model_name="resnet10t")
SUPERPIXELS = {"name": "superpixels", "felzenszwalb_scales": [300], "slic_segments": [10]}
NAMES = ("a", "b", "deep/c", "d")
VALUES: dict[str, Any] = {
    "machine": {"accelerator": "cpu", "num_workers": 0},
    "train_classifier": {
        "backbone": BACKBONE.model_dump(),
        "augment": {"crop_size": 32, "long_side": [32, 40]},
        "batch_size": 2,
        "epochs": 2,
        "eval_long_side": 32,
    },
    "generate_cams": {"scales": [1.0], "batch_size": 1},
    "train_teachers": {"first": {}, "second": {"head": {"dropout": 0.5}}},
    "further_cams": {
        "first": {"method": {"name": "grad_cam", "layers": ["stage3"]}},
        "second": {"method": {"name": "layer_cam", "layers": ["stage2"]}},
    },
    "make_proposals": {"first": SUPERPIXELS, "second": SUPERPIXELS | {"felzenszwalb_scales": []}},
    "train_affinities": {
        "first": {"method": {"name": "psa", "widths": [4, 4, 4]}},
        "second": {"method": {"name": "irn", "radius": 3}},
    },
    "refine": {
        "chains": {"both": [{"name": "fusion", "sources": {"first": 2.0, "second": 1.0}}]},
    },
    "make_pseudo_masks": {"chain": "both"},
}
PATHS = Paths(Path())  # as stages have it, so that a fingerprint is the same in every folder

TRAINED = {"train_teachers": PATHS.teachers, "train_affinities": PATHS.affinities}
WRITTEN: dict[str, tuple[Path, Any, str]] = {
    "generate_further_cams": (PATHS.further_cams, _cams, "write_score_map"),
    "make_proposals": (PATHS.proposals, make_proposals, "write_proposals"),
}
"""Stages, their folders, and what writes the result of an image."""


def params(**sections: Any) -> Params:
    return parse_params(VALUES | sections)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images, their tags, a random classifier and its CAMs."""
    root = tmp_path_factory.mktemp("prepared")
    paths, rng, samples = Paths(root), np.random.default_rng(0), []
    for name, ids in zip(NAMES, ((1,), (1, 2), (2,), ()), strict=True):
        file = paths.images / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 48, 3), np.uint8)).save(file)
        samples.append(Sample(name, f"{name}.png", (32, 48), ids))
    splits = {"train": tuple(samples[1:]), "selection": tuple(samples[:1]), "val": ()}
    Manifest(("x", "y"), splits).write(paths.splits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(TimmBackbone(BACKBONE), ("x", "y"))
        torch.nn.init.uniform_(model.head.weight)
    paths.classifier.mkdir(parents=True)
    save_classifier(model, BACKBONE, "multi_label", paths.classifier)
    run_stage("generate_cams", params(), paths)
    return root


@pytest.fixture
def fresh(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Go to a copy of the prepared project."""

    def enter(name: str) -> None:
        shutil.copytree(prepared, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)

    return enter


class Counting(NullTracker):
    """Counts epochs, and ends the run after so many; keeps tags."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.stop_after = stop_after
        self.epochs = 0
        self.told: dict[str, str] = {}

    def tags(self, values: Mapping[str, str]) -> None:
        self.told.update(values)

    def flush(self) -> None:
        self.epochs += 1
        if self.epochs == self.stop_after:
            raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def nothing_happens(stage: str, out: Path) -> None:
    """In a run after a finished one, but that the report is written again."""
    before, report = times(out), PATHS.report(stage).read_bytes()
    run_stage(stage, params(), PATHS)
    assert times(out) == before
    assert PATHS.report(stage).read_bytes() == report


@pytest.mark.parametrize("stage", TRAINED)
def test_training_that_is_killed_goes_on_to_the_same_bytes(
    fresh: Callable[[str], None], stage: str
) -> None:
    out = TRAINED[stage]
    fresh("whole")
    run_stage(stage, params(), PATHS)
    whole, report = contents(out), read_json(PATHS.report(stage))
    assert {name.split("/")[0] for name in whole} == set(report) == {"first", "second"}
    assert all("key" not in values for values in report.values())
    nothing_happens(stage, out)

    fresh("killed")  # in the second one, after the first of two epochs
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, params(), PATHS, Counting(stop_after=3))
    assert (out / "first").exists() and not (out / "second").exists()
    done, tracker = times(out / "first"), Counting()
    run_stage(stage, params(), PATHS, tracker)
    assert tracker.epochs == 1 and times(out / "first") == done
    assert contents(out) == whole
    assert read_json(PATHS.report(stage)) == report


@pytest.mark.parametrize("stage", WRITTEN)
def test_maps_and_masks_of_a_killed_run_are_not_made_again(
    fresh: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    out, module, writer = WRITTEN[stage]
    original, written = getattr(module, writer), []
    stop_at = 0

    def write(path: Path, result: Any) -> None:
        if len(written) + 1 == stop_at:
            raise KeyboardInterrupt
        written.append(path.stem)
        original(path, result)

    monkeypatch.setattr(module, writer, write)
    fresh("whole")
    run_stage(stage, params(), PATHS)
    assert sorted(written) == sorted(2 * ["a", "b", "c", "d"])
    whole, report = contents(out), read_json(PATHS.report(stage))
    nothing_happens(stage, out)

    fresh("killed")  # with two images of the second source done
    written.clear()
    stop_at = 7
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, params(), PATHS)
    assert (out / "first").exists() and not (out / "second").exists()
    done, first = set(written[4:]), times(out / "first")
    written.clear()
    stop_at = 0
    run_stage(stage, params(), PATHS)
    assert len(done) == 2 and sorted([*done, *written]) == ["a", "b", "c", "d"]
    assert contents(out) == whole and times(out / "first") == first
    assert read_json(PATHS.report(stage)) == report


def test_further_maps_are_fused(fresh: Callable[[str], None]) -> None:
    fresh("project")
    tracker = Counting()
    run_stage("generate_further_cams", params(), PATHS, tracker)
    assert {f"{name}_precision": "32-true" for name in params().further_cams} == tracker.told
    report = read_json(PATHS.report("generate_further_cams"))
    assert report == {"first": {"num_images": 4}, "second": {"num_images": 4}}
    run_stage("refine_cams@both", params(), PATHS)
    for name in NAMES:
        own, first, second, fused = (
            read_score_map(folder / f"{name}.npz")
            for folder in (
                PATHS.cams,
                PATHS.further_cams / "first",
                PATHS.further_cams / "second",
                PATHS.refined("both"),
            )
        )
        expected = (own.scores + 2 * first.scores + second.scores) / 4
        np.testing.assert_allclose(fused.scores, expected, atol=2 / 255)  # as they are stored
        assert fused.scores.shape == (len(own.class_ids), 8, 12)
        if len(own.class_ids):
            assert not np.allclose(first.scores, second.scores, atol=0.1)


def test_a_source_that_is_no_longer_named_is_deleted(fresh: Callable[[str], None]) -> None:
    fresh("project")
    run_stage("generate_further_cams", params(), PATHS)
    kept = times(PATHS.further_cams / "second")
    named = {"second": VALUES["further_cams"]["second"]}
    chains = {"chains": {"both": []}}
    run_stage("generate_further_cams", params(further_cams=named, refine=chains), PATHS)
    assert [path.name for path in PATHS.further_cams.iterdir()] == ["second"]
    assert times(PATHS.further_cams / "second") == kept


def test_a_missing_variable_is_named_where_it_stands(
    fresh: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh("project")
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(ValueError, match=r"--set train_teachers\.first\.backbone\.weights=/a/path"):
        run_stage("train_teachers", with_weights(weights="$NOWHERE/w.pth"), PATHS)


def test_changed_images_train_teachers_anew(fresh: Callable[[str], None]) -> None:
    fresh("project")
    epochs = []
    for grey in (None, None, 99):
        if grey is not None:
            Image.new("RGB", (48, 32), (grey, grey, grey)).save(PATHS.images / "b.png")
        tracker = Counting()
        run_stage("train_teachers", params(), PATHS, tracker)
        epochs.append(tracker.epochs)
    assert epochs == [4, 0, 4]


def with_weights(**keys: str) -> Params:
    """Two teachers, of which the first starts from weights."""
    backbone = VALUES["train_classifier"]["backbone"] | keys
    return params(train_teachers={"first": {"backbone": backbone}, "second": {}})


def test_other_weights_in_the_same_file_are_noticed(
    fresh: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh("project")
    monkeypatch.setenv("HERE", str(Path().absolute()))
    found = with_weights(weights="$HERE/w.safetensors")
    epochs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights: Mapping[str, Any] = TimmBackbone(BACKBONE).net.state_dict()
        save_file(dict(weights), Path("w.safetensors"), metadata={"of": "x" * (1 + 99 * seed)})
        for _ in range(2):
            tracker = Counting()
            run_stage("train_teachers", found, PATHS, tracker)
            epochs.append(tracker.epochs)
    assert epochs == [4, 0, 2, 0]


def test_another_checkpoint_of_a_source_of_masks_is_noticed(
    fresh: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []

    def build(settings: Any, device: Any) -> Superpixels:
        built.append(settings)
        return Superpixels(SuperpixelsSettings.model_validate(SUPERPIXELS), device)

    monkeypatch.setattr(make_proposals, "PROPOSALS", SimpleNamespace(build=build))
    fresh("project")
    found = params(make_proposals={"sam": {"name": "sam", "checkpoint": "sam.pth"}})
    counts = []
    for text in ("one", "one", "another"):
        Path("sam.pth").write_text(text)
        run_stage("make_proposals", found, PATHS)
        counts.append(len(built))
    assert counts == [1, 1, 2]
