"""A package, and the project itself, predict what predict_masks does, whatever that is set to."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from wsss.artifacts import Manifest, Paths, read_image, read_json, read_label_png, write_label_png
from wsss.config.params import load_params
from wsss.pipeline import Job
from wsss.prediction import open_model
from wsss.prediction.package import read_package, with_files_at
from wsss.prediction.served import ServedModel
from wsss.serving.package import write_package
from wsss.stages import find_stages, run_stage


@pytest.fixture
def same(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[np.ndarray]]:
    """Runs predict_masks with settings, and checks that a package gives the same masks."""
    monkeypatch.setattr(Job, "panel", lambda *_, **__: None)

    def compare(*stages: str, **settings: Any) -> list[np.ndarray]:
        values = yaml.safe_load((project / "params.yaml").read_text())
        for section, changes in settings.items():
            values[section] = values.get(section, {}) | changes
        (project / "params.yaml").write_text(yaml.safe_dump(values))
        params, paths = load_params(), Paths(project)
        for stage in (*stages, "predict_masks"):
            run_stage(stage, params, paths)
        package = project / "package"
        write_package(find_stages(), params, paths, package)
        samples = Manifest.read(paths.splits).splits["val"]
        expected = [
            read_label_png(paths.predictions / f"val/{sample.name}.png") for sample in samples
        ]
        images = [read_image(paths.images / sample.image) for sample in samples]
        for model in (
            ServedModel(read_package(package), params.machine),
            open_model(project, "cpu"),
        ):
            assert model.has_background == Manifest.read(paths.splits).has_background
            found = model.predict(images)
            assert len(found) == len(expected) == 4
            for predicted, wanted in zip(found, expected, strict=True):
                assert predicted.mask.dtype == np.uint8 and predicted.probs is None
                assert np.array_equal(predicted.mask, wanted)
        return expected

    return compare


def classes_in(masks: list[np.ndarray]) -> set[int]:
    return {int(value) for mask in masks for value in np.unique(mask)}


@pytest.mark.parametrize(
    "settings",
    [
        {"crf": None, "scales": [0.5, 1.0, 1.5], "batch_size": 1},
        {"window": 32, "window_overlap": 0.25, "crf": {"n_iters": 1}},
        {"window": 60, "flip": False, "crf": None},
    ],
)
def test_views_windows_and_crf(same: Callable[..., Any], settings: dict[str, Any]) -> None:
    assert len(classes_in(same(predict_masks=settings))) > 1


def test_classes_that_the_classifier_denies_stay_out(
    project: Path, same: Callable[..., Any]
) -> None:
    """Thresholds that the selection split gives: here those of the images, of which one has y."""
    paths = Paths(project)
    manifest = Manifest.read(paths.splits)
    val = manifest.splits["val"]
    first = type(val[0])(val[0].name, val[0].image, val[0].size, (1,))
    splits = {**manifest.splits, "selection": (first, *val[1:2])}
    Manifest(manifest.class_names, splits).write(paths.splits)
    free = same(predict_masks={"crf": None})
    shutil.rmtree(project / "package")
    filtered = same(predict_masks={"crf": None, "filter_recall": 1, "filter_long_side": 48})
    assert any((a != b).any() for a, b in zip(free, filtered, strict=True))
    known = read_json(project / "package/prediction.json")["filter"]
    assert known["long_side"] == 48 and len(known["thresholds"]) == 2


def test_without_a_background_each_pixel_has_a_class(
    project: Path, same: Callable[..., Any], new_segmenter: Callable[[Paths, int], None]
) -> None:
    paths = Paths(project)
    manifest = Manifest.read(paths.splits)
    Manifest(manifest.class_names, manifest.splits, has_background=False).write(paths.splits)
    new_segmenter(paths, 3)
    assert classes_in(same()) == {1, 2}


def test_an_index_of_regions_finds_its_own_proposals(
    project: Path, same: Callable[..., Any]
) -> None:
    paths = Paths(project)
    manifest = Manifest.read(paths.splits)
    val = manifest.splits["val"]
    Manifest(manifest.class_names, {**manifest.splits, "train": val}).write(paths.splits)
    for sample in val:
        mask = np.zeros(sample.size, np.uint8)
        mask[:, : sample.size[1] // 2] = 1 + ord(sample.name) % 2
        write_label_png(paths.pseudo_masks / f"{sample.name}.png", mask)
    source = {"name": "superpixels", "felzenszwalb_scales": [50], "slic_segments": [9]}
    index = {"proposals": "cut", "neighbours": 1, "long_side": 64, "erosions": 0, "min_area": 1}
    masks = same(
        "make_proposals",
        "train_segmenter",
        make_proposals={"cut": source},
        train_segmenter={"retrieval": index},
        predict_masks={"crf": None},
    )
    assert len(classes_in(masks)) > 1
    assert read_json(project / "package/prediction.json")["proposals"]["slic_segments"] == [9]


def test_images_of_any_size_come_in_their_order(project: Path) -> None:
    params, paths = load_params(), Paths(project)
    write_package(find_stages(), params, paths, project / "package")
    model = ServedModel(read_package(project / "package"), params.machine)
    assert (model.class_names, model.has_background) == (("x", "y"), True)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((1, 1), (70, 9), (1, 1))]
    found = model.predict(images)
    assert [predicted.mask.shape for predicted in found] == [(1, 1), (70, 9), (1, 1)]
    assert model.predict([]) == []
    for image, predicted in zip(images, found, strict=True):
        assert np.array_equal(model.predict([image])[0].mask, predicted.mask)
    with pytest.raises(ValueError, match="image 1 must be uint8, but is float64"):
        model.predict([images[0], images[1] / 255])


def test_files_of_a_source_travel_with_it(tmp_path: Path) -> None:
    from wsss.proposals.sam import SamSettings
    from wsss.serving.package import _with_files

    weights = tmp_path / "home/sam.pth"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    package = tmp_path / "package"
    package.mkdir()
    settings = _with_files(SamSettings(checkpoint=str(weights)), package)
    assert str(tmp_path) not in str(settings)
    weights.unlink()
    found = SamSettings.model_validate(with_files_at(settings, package))
    assert Path(found.checkpoint).read_bytes() == b"weights"
