"""The stage on two images: what it writes, and that windows reach it."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    mark_packed,
    read_further_map,
    read_json,
    read_score_map,
)
from wsss.cam import making
from wsss.cam.patch_memory import PatchMemory
from wsss.config.params import parse_params
from wsss.config.sections import BackboneSettings
from wsss.launch import Site
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.disentangler import DisentanglerSettings
from wsss.models.fusion import ActivatedConv2d
from wsss.models.timm_backbone import TimmBackbone
from wsss.pipeline import Job, exclusive
from wsss.stages import _cams, find_stages, run_stage
from wsss.tracking import NullTracker

CPU = {"num_workers": 0, "accelerator": "cpu"}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A random classifier of two classes, a large image with a tag and a tiny one without."""
    paths = Paths(tmp_path)
    for folder in (paths.images, paths.splits, paths.classifier):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    samples = []
    for name, size, ids in (("a", (96, 160), (1, 2)), ("b", (9, 5), ())):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(paths.images / f"{name}.png")
        samples.append(Sample(name, f"{name}.png", size, ids))
    Manifest(("x", "y"), {"train": tuple(samples), "selection": (), "val": ()}).write(paths.splits)
    torch.manual_seed(0)
    settings = BackboneSettings(model_name="resnet10t")
    model = Classifier(TimmBackbone(settings), ("x", "y"))
    torch.nn.init.uniform_(model.head.weight)  # maps above 0, as features are
    save_classifier(model, settings, "multi_label", paths.classifier)
    return paths


def cams_of(paths: Paths, name: str = "a", **settings: Any) -> ScoreMap:
    changes = {"generate_cams": {"scales": [1.0]} | settings}
    params = parse_params({"machine": CPU} | changes)
    run_stage("generate_cams", params, paths)
    return read_score_map(paths.cams / f"{name}.npz")


def test_maps_of_the_tags_alone(paths: Paths) -> None:
    large, tiny = cams_of(paths), cams_of(paths, "b")
    assert large.class_ids.tolist() == [1, 2] and large.scores.shape == (2, 24, 40)
    assert large.scores.max() > 0.99
    assert tiny.class_ids.tolist() == [] and tiny.size == (9, 5)


@pytest.mark.parametrize("window", [0, 64])
def test_classes_that_nobody_knows_of_have_a_map_where_the_classifier_finds_them(
    paths: Paths, window: int
) -> None:
    whole = cams_of(paths, window=window)
    manifest = Manifest.read(paths.splits)
    (sample, other) = manifest.splits["train"]
    doubtful = replace(sample, class_ids=(2,), uncertain=((1, None),))
    Manifest(("x", "y"), manifest.splits | {"train": (doubtful, other)}).write(paths.splits)
    model, _ = load_classifier(paths.classifier)
    settings = BackboneSettings(model_name="resnet10t")
    for sign in (1, -1):
        with torch.no_grad():
            model.head.weight[0] = sign * model.head.weight[0].abs()
        save_classifier(model, settings, "multi_label", paths.classifier)
        found = cams_of(paths, window=window)
        assert found.class_ids.tolist() == ([1, 2] if sign > 0 else [2])
        if sign > 0:
            np.testing.assert_array_equal(found.scores, whole.scores)
            assert found.class_probs[0] >= 0.5
    # of a further map every class that may be there is kept, to go with those of any classifier
    further = {"further_cams": {"same": {"scales": [1.0], "window": window}}}
    params = parse_params({"machine": CPU} | further)
    run_stage("generate_further_cams", params, paths)
    path = paths.further_cams / "same"
    assert read_score_map(path / "a.npz").class_ids.tolist() == [1, 2]
    beside = read_further_map(path, "a", found)
    assert beside.class_ids.tolist() == [2]
    np.testing.assert_array_equal(beside.scores, found.scores)


def test_windows_of_the_image_and_smaller_ones(paths: Paths) -> None:
    whole = cams_of(paths)
    same = cams_of(paths, window=160)
    windows = cams_of(paths, window=64)
    assert np.array_equal(whole.scores, same.scores)
    assert windows.scores.shape == whole.scores.shape
    assert not np.allclose(windows.scores, whole.scores, atol=0.05)


def test_windows_of_any_size_leave_small_images_as_they_are(paths: Paths) -> None:
    # 90 x 150 pixels fill no whole cells; the tiny image has to run as it does without windows.
    pixels = np.random.default_rng(1).integers(0, 256, (90, 150, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(paths.images / "a.png")
    samples = Sample("a", "a.png", (90, 150), (2,)), Sample("b", "b.png", (9, 5), (1,))
    Manifest(("x", "y"), {"train": samples, "selection": (), "val": ()}).write(paths.splits)
    wanted = cams_of(paths, "b")
    windows = cams_of(paths, window=64, scales=[0.5, 1.0, 2.0])
    assert windows.scores.shape == (1, 23, 38) and windows.size == (90, 150)
    assert windows.scores.min() >= 0 and 0.99 < windows.scores.max() <= 1
    found = cams_of(paths, "b", window=64)
    assert np.array_equal(found.scores, wanted.scores)
    assert np.array_equal(found.class_probs, wanted.class_probs)


def test_a_killed_run_goes_on_with_what_is_left(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    samples = Manifest.read(paths.splits).splits["train"]
    tagged = tuple(replace(sample, class_ids=(1,)) for sample in samples)
    Manifest(("x", "y"), {"train": tagged, "selection": (), "val": ()}).write(paths.splits)
    decoded: list[str] = []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(making, "shared_cams", stop)  # after the large image
        cams_of(paths, window=64)
    monkeypatch.setattr(_cams, "read_image", lambda path: decoded.append(path.name))
    cams_of(paths, window=64)
    assert decoded == []


def test_an_image_without_any_tag_is_not_run(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = cams_of(paths, "b")
    shutil.rmtree(paths.cams)
    monkeypatch.setattr(making, "shared_cams", lambda *args, **kwargs: 1 / 0)
    found = cams_of(paths, "b", window=64)  # the large image, which has a tag, runs in windows
    assert found.scores.shape == wanted.scores.shape == (0, 3, 2)
    assert found.class_probs.shape == (0,)


@pytest.mark.parametrize("window", [0, 64])
def test_a_method_that_learns_sees_the_good_images_of_train_alone(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    method = {"name": "patch_memory", "stages": [1, 2], "size": 50, "candidates": 400}
    with pytest.raises(ValueError, match=r"there are 1; add images"):
        cams_of(paths, method=method, window=window)
    rng = np.random.default_rng(1)
    samples = list(Manifest.read(paths.splits).splits["train"])
    for name in ("good1", "good2", "doubtful", "val"):
        pixels = rng.integers(100, 120, (96, 160, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(paths.images / f"{name}.png")
        samples.append(Sample(name, f"{name}.png", (96, 160), ()))
    samples[4] = replace(samples[4], uncertain=((1, None),))
    splits = {"train": tuple(samples[:5]), "selection": (), "val": tuple(samples[5:])}
    Manifest(("x", "y"), splits).write(paths.splits)
    seen: list[int] = []
    learn = PatchMemory.learn

    def counted(self: Any, model: Any, good: Any, count: int, rng_seed: int) -> None:
        views = [list(image) for image in good]
        seen.extend([count, len(views), len(views[-1]), max(views[-1][0].shape[2:])])
        learn(self, model, views, count, rng_seed)

    monkeypatch.setattr(PatchMemory, "learn", counted)
    found = cams_of(paths, method=method, window=window)
    # b, which is tiny, good1 and good2; in windows these are two by three
    assert seen == [3, 3, 6 if window else 1, window or 160]
    assert found.scores.shape == (2, 24, 40) and 0 < found.scores.max() <= 1
    assert np.array_equal(*found.scores)


def test_a_method_the_network_can_not_have_stops_it(paths: Paths) -> None:
    with pytest.raises(ValueError, match="choose a plain vision transformer"):
        cams_of(paths, method={"name": "trans_cam"})
    assert not paths.cams.exists()


def test_maps_of_a_classifier_that_sees_nothing_are_said(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"b{index}" for index in range(12)]
    for name in names:
        Image.new("RGB", (64, 64)).save(paths.images / f"{name}.png")
    samples = tuple(Sample(name, f"{name}.png", (64, 64), (1,)) for name in names)
    Manifest(("x", "y"), {"train": samples, "selection": (), "val": ()}).write(paths.splits)
    model, _ = load_classifier(paths.classifier)
    torch.nn.init.constant_(model.head.weight, -1)
    settings = BackboneSettings(model_name="resnet10t")
    save_classifier(model, settings, "multi_label", paths.classifier)
    assert not cams_of(paths, "b0").scores.any()
    assert "12 of 12 (100 %) maps of an image's own tag are empty: 'x' 12" in caplog.text
    report = read_json(paths.report("generate_cams"))
    assert report["num_images"] == 12 and "generate_cams.scales" in report["warnings"][0]
    assert report["classes"] == {"empty_maps": {"x": 12}}


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder of maps, but for what only says how it was made."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


class Passes:
    """How often a classifier saw images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        forward = Classifier.forward

        def counted(model: Classifier, images: torch.Tensor, **how: Any) -> Any:
            self.count += images.shape[2] > 64  # and not where batch norm is folded
            return forward(model, images, **how)

        monkeypatch.setattr(Classifier, "forward", counted)

    def taken(self) -> int:
        """Since it was asked last."""
        count, self.count = self.count, 0
        return count


def project_stage(name: str, paths: Paths, **sections: Any) -> None:
    """Run a stage as in a project, where others follow in the same folder."""
    params = parse_params({"machine": CPU} | sections)
    pipeline = find_stages()
    target = pipeline.target(name, params)
    job = Job(pipeline, target, params, paths, NullTracker(), site=Site())
    job.ahead = lambda _: paths.root
    job.run()


def made_apart(paths: Paths, sections: dict[str, Any]) -> dict[str, bytes]:
    """The maps of both stages where each makes its own; none of them stays."""
    for stage in ("generate_cams", "generate_further_cams"):
        run_stage(stage, parse_params({"machine": CPU} | sections), paths)
    made = files(paths.cams) | files(paths.further_cams)
    shutil.rmtree(paths.cams)
    shutil.rmtree(paths.further_cams)
    return made


@pytest.mark.parametrize("packed", [False, True])
def test_maps_of_one_network_come_from_one_forward_pass(
    paths: Paths, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes them: the bytes are those that each stage makes alone."""
    mark_packed(paths.splits, packed=packed)
    layer = {"method": {"name": "layer_cam"}, "scales": [0.9, 1.0]}
    sections = {
        "generate_cams": {"scales": [1.0]},
        "further_cams": {"layer": layer, "windows": layer | {"window": 64}},
    }
    wanted = made_apart(paths, sections)
    passes = Passes(monkeypatch)
    project_stage("generate_cams", paths, **sections)
    assert passes.taken() == 2
    assert not any(path.name == "layer" for path in paths.further_cams.iterdir())
    project_stage("generate_further_cams", paths, further_cams={"layer": layer})
    assert passes.taken() == 0
    project_stage("generate_further_cams", paths, **sections)
    found = files(paths.cams) | files(paths.further_cams)
    assert found == wanted

    # what is up to date is not begun again, and what is not is
    project_stage("generate_cams", paths, **sections)
    assert not (paths.further_cams / ".layer.partial").exists()
    assert files(paths.cams) | files(paths.further_cams) == wanted
    layer["scales"] = [0.8, 1.0]
    project_stage("generate_cams", paths, **sections)
    assert (paths.further_cams / ".layer.partial").is_dir()
    sections["further_cams"] = {"other": layer}
    project_stage("generate_further_cams", paths, **sections)
    assert {path.name for path in paths.further_cams.iterdir()} == {"other"}


def another_classifier(paths: Paths, name: str, *parts: Any, same_stem: bool) -> None:
    """A teacher that learned something else, but for its first layers, or for none."""
    model, _ = load_classifier(paths.classifier)
    settings = BackboneSettings(model_name="resnet10t")
    teacher = Classifier(TimmBackbone(settings), ("x", "y"), parts=parts)
    teacher.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        for place, parameter in teacher.backbone.net.named_parameters():
            if not (same_stem and place.startswith(("conv1", "bn1", "layer1"))):
                parameter.add_(0.02 * torch.randn_like(parameter))
    folder = paths.teachers / name
    folder.mkdir(parents=True)
    save_classifier(teacher, settings, "single_label", folder)


@pytest.mark.parametrize("packed", [False, True])
def test_classifiers_that_begin_alike_run_their_first_layers_once(
    paths: Paths, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes the maps: the bytes are those that each stage makes alone."""
    mark_packed(paths.splits, packed=packed)
    another_classifier(paths, "alike", DisentanglerSettings(), same_stem=True)
    another_classifier(paths, "apart", DisentanglerSettings(), same_stem=False)
    another_classifier(paths, "plain", same_stem=True)
    method = {"method": {"name": "ccam"}, "scales": [0.9, 1.0]}
    beside = {
        "objects": method | {"classifier": "alike"},
        "classes": {"classifier": "plain", "scales": [1.0]},
        "layer": {"method": {"name": "layer_cam"}, "scales": [1.0]},
    }
    alone = {
        "apart": method | {"classifier": "apart"},
        "flipped": method | {"classifier": "alike", "flip": False},
        "stages": {
            "method": {"name": "layer_cam", "layers": ["stage3"]},
            "classifier": "plain",
            "scales": [1.0],
        },
    }
    teachers = {name: {} for name in ("alike", "apart", "plain")}
    sections = {
        "train_teachers": teachers,
        "generate_cams": {"scales": [1.0]},
        "further_cams": beside | alone,
    }
    wanted = made_apart(paths, sections)
    passes = Passes(monkeypatch)
    stems: list[int] = []
    first_layer = ActivatedConv2d.forward

    def counted(self: ActivatedConv2d, maps: torch.Tensor) -> torch.Tensor:
        if self.conv.in_channels == 3 and maps.shape[2] > 64:
            stems.append(maps.shape[2])
        return first_layer(self, maps)

    monkeypatch.setattr(ActivatedConv2d, "forward", counted)
    project_stage("generate_cams", paths, **sections)
    # of the CAMs and LayerCAM together one, of "classes" one, of "objects" one a scale, of which
    # there are two
    assert passes.taken() == 1 + 1 + 2
    assert stems == [80, 96]
    begun = {path.name for path in paths.further_cams.iterdir() if path.is_dir()}
    assert begun == {f".{name}.partial" for name in beside}
    project_stage("generate_further_cams", paths, **sections | {"further_cams": beside})
    assert passes.taken() == 0
    project_stage("generate_further_cams", paths, **sections)
    assert files(paths.cams) | files(paths.further_cams) == wanted

    # no classifier is opened of which all maps are made
    loaded: list[Path] = []

    def noted(folder: Path) -> tuple[Classifier, str]:
        loaded.append(folder)
        return load_classifier(folder)

    monkeypatch.setattr(_cams, "load_classifier", noted)
    project_stage("generate_cams", paths, **sections)
    assert loaded == [paths.classifier]
    assert files(paths.cams) | files(paths.further_cams) == wanted


def test_the_stage_that_makes_further_maps_says_why_it_can_not(paths: Paths) -> None:
    another_classifier(paths, "plain", same_stem=True)
    further = {"objects": {"method": {"name": "ccam"}, "scales": [1.0], "classifier": "plain"}}
    gone = {"gone": {"scales": [1.0], "classifier": "gone"}}
    sections = {
        "train_teachers": {name: {} for name in ("plain", "gone")},
        "generate_cams": {"scales": [1.0]},
        "further_cams": further | gone,
    }
    project_stage("generate_cams", paths, **sections)
    assert (paths.cams / "a.npz").exists() and not paths.further_cams.exists()
    with pytest.raises(ValueError, match=r"^further_cams\.objects\.method: ccam needs .* part"):
        project_stage("generate_further_cams", paths, **sections)


def test_maps_that_another_process_makes_are_left_to_it(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = {"generate_cams": {"scales": [1.0]}, "further_cams": {"same": {"scales": [1.0]}}}
    monkeypatch.setattr(exclusive, "PATIENCE", 0.1)
    holding = "import sys; from pathlib import Path; from wsss.pipeline.exclusive import hold\n"
    holding += "with hold(Path(sys.argv[1])): print('held', flush=True); input()"
    command = [sys.executable, "-c", holding, paths.further_cams / "same"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        project_stage("generate_cams", paths, **sections)
        assert not (paths.further_cams / ".same.partial").exists()
        other.communicate("\n", timeout=30)
    assert read_score_map(paths.cams / "a.npz").scores.max() > 0.99
