"""A model from wherever it is, and what is said of what is none."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from wsss.artifacts import Sample, palette, write_json
from wsss.config.segmentation import PredictMasksSettings
from wsss.prediction import open_model, served
from wsss.prediction.files import FilterFiles, ModelFiles

Write = Callable[..., Path]


@pytest.fixture
def segmenter(tmp_path: Path, colour_segmenter: Write) -> Path:
    return colour_segmenter(tmp_path)


def stripes(height: int = 64, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """An image of red, green and blue columns, and the mask that the network finds."""
    mask = np.arange(width)[None].repeat(height, axis=0).astype(np.uint8) * 3 // width
    colours = np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)
    return colours[mask], mask


def test_the_model_knows_its_classes(segmenter: Path) -> None:
    model = open_model(segmenter, "cpu")
    assert (model.class_names, model.has_background) == (("red", "green"), True)
    assert np.array_equal(model.palette, palette()[:3])
    assert model.about["arch"] == "unet_small"
    assert model.about["settings_from"] == "the defaults of wsss"
    assert model.about["settings"]["scales"] == [0.75, 1.0, 1.25]


def test_probabilities_and_the_mask_are_of_one_another(segmenter: Path) -> None:
    image, mask = stripes()
    model = open_model(str(segmenter), "cpu")
    (plain,), (found,) = model.predict([image]), model.predict([image], probs=True)
    assert plain.probs is None and found.probs is not None
    assert found.probs.shape == (3, *mask.shape) and found.probs.dtype == np.float32
    assert np.allclose(found.probs.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(found.probs.argmax(axis=0), plain.mask)
    assert (plain.mask == mask).mean() > 0.9  # scales blur the borders


def test_a_project_predicts_as_its_settings_say(segmenter: Path) -> None:
    image, mask = stripes()
    root = segmenter.parents[1]
    (root / "params.yaml").write_text(
        "predict_masks: {scales: [1.0], flip: false, window: 64, window_overlap: 0.5}\n"
    )
    for place in (root, segmenter):
        model = open_model(place, "cpu")
        assert model.about["settings_from"] == str(root / "params.yaml")
        (found,) = model.predict([image], probs=True)  # in two windows
        assert np.array_equal(found.mask, mask)
        assert found.probs is not None and found.probs.min(initial=1) >= 0
        assert np.allclose(found.probs.sum(axis=0), 1, atol=1e-5)
    copy = shutil.copytree(segmenter, root / "elsewhere/copy")
    assert open_model(copy, "cpu").about["settings_from"] == "the defaults of wsss"
    (root / "params.yaml").write_text("predict_masks: {scale: [1.0]}\n")
    with pytest.raises(ValueError, match=r"params\.yaml: .*no key 'scale'; did you mean 'scales'"):
        open_model(segmenter, "cpu")


def test_the_crf_can_be_left_out(segmenter: Path) -> None:
    image, _ = stripes()
    root = segmenter.parents[1]
    settings = "predict_masks: {scales: [1.0], flip: false, crf: {n_iters: 3, sigma_rgb: 90}}\n"
    (root / "params.yaml").write_text(settings)
    model = open_model(root, "cpu")
    noisy = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    (with_crf,), (without,) = model.predict([noisy]), model.predict([noisy], crf=False)
    assert np.array_equal(without.mask, noisy[..., [2, 0, 1]].argmax(axis=2))
    assert (with_crf.mask != without.mask).any()


def test_tags_leave_out_all_other_classes(segmenter: Path) -> None:
    image, mask = stripes()
    model = open_model(segmenter, "cpu")
    free, red, none = model.predict([image] * 3, tags=[None, ["red"], ()], probs=True)
    assert np.array_equal(np.unique(free.mask), [0, 1, 2])
    assert np.array_equal(np.unique(red.mask), [0, 1]) and (red.mask[mask == 1] == 1).mean() > 0.9
    assert red.probs is not None and red.probs[2].max() == 0
    assert not none.mask.any()
    assert np.array_equal(model.predict([image])[0].mask, free.mask)
    for tags, said in {
        ("rde",): "the tags of image 0 name 'rde', which is no class.* did you mean 'red'",
        "red": r"the tags of image 0 are the text 'red'; give a list, such as \['red'\]",
    }.items():
        with pytest.raises(ValueError, match=said):
            model.predict([image], tags=[tags])
    with pytest.raises(ValueError, match="tags are of 2 images, and there are 1"):
        model.predict([image], tags=[None, None])


def test_without_a_background_there_is_always_a_class(
    tmp_path: Path, colour_segmenter: Write
) -> None:
    model = open_model(colour_segmenter(tmp_path, has_background=False), "cpu")
    image, _ = stripes()
    assert not model.has_background
    (found,) = model.predict([image], tags=[["green"]], probs=True)
    assert (found.mask == 2).all()
    assert found.probs is not None and found.probs[0].max() == 0
    with pytest.raises(ValueError, match=r"the tags of image 0 are none, but .* no background"):
        model.predict([image], tags=[[]])


def test_a_model_is_known_by_what_its_masks_depend_on(
    tmp_path: Path, segmenter: Path, colour_segmenter: Write
) -> None:
    root, other = segmenter.parents[1], tmp_path / "other"
    key = open_model(segmenter, "cpu").about["key"]
    assert open_model(shutil.copytree(segmenter, tmp_path / "copy"), "cpu").about["key"] == key
    defaults = PredictMasksSettings()
    (root / "params.yaml").write_text("predict_masks: {splits: [train], batch_size: 2}\n")
    assert open_model(segmenter, "cpu").about["key"] == key
    (root / "params.yaml").write_text(f"predict_masks: {{flip: {not defaults.flip}}}\n".lower())
    assert open_model(segmenter, "cpu").about["key"] != key
    assert open_model(colour_segmenter(other, has_background=False), "cpu").about["key"] != key


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nowhere", "nowhere is no model: there is no such file or folder; name models/segmenter"),
        ("wsss@champion", "for a registered model write models:/wsss@champion"),
        ("empty", "empty is a folder that holds no model; name models/segmenter"),
        ("a.txt", r"a\.txt is a file that is no model"),
        ("classifier", "classifier holds no segmenter: its model.json has no 'arch'"),
        (
            "untrained",
            "a project without a trained segmenter: .*`wsss run train_segmenter` trains ",
        ),
        ("models:/a/b/c", "names no model; write NAME"),
        ("models:/wsss", "no model is registered in .*wsss models register"),
        ("runs:/abc", "names no model of a run; write runs:/<run>/model"),
    ],
)
def test_what_is_no_model_is_said(
    place: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("empty").mkdir()
    Path("a.txt").touch()
    write_json(Path("classifier/model.json"), {"class_names": ["x"], "backbone": {}})
    Path("untrained").mkdir()
    Path("untrained/params.yaml").touch()
    with pytest.raises(ValueError, match=said):
        open_model(place, "cpu")
    assert not Path("mlflow.db").exists()


def test_a_damaged_segmenter_is_said(segmenter: Path) -> None:
    weights = segmenter / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"weights\.safetensors is not a safetensors file"):
        open_model(segmenter, "cpu")


def test_a_device_that_is_not_there_is_said(
    segmenter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="the device is 'cdua'; did you mean 'cuda'"):
        open_model(segmenter, "cdua")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("lightning_fabric.accelerators.MPSAccelerator.is_available", lambda: False)
    for device in ("cuda", "mps"):
        with pytest.raises(ValueError, match=f"the device is '{device}'.*PyTorch sees none"):
            open_model(segmenter, device)


def test_the_filter_of_a_project_needs_its_images(segmenter: Path) -> None:
    root = segmenter.parents[1]
    (root / "params.yaml").write_text("predict_masks: {filter_recall: 0.9}\n")
    with pytest.raises(ValueError, match=r"filter_recall of .*there is no .*data/images and no"):
        open_model(segmenter, "cpu")


class Denying:
    """A classifier that finds nothing."""

    def present(self, samples: list[Sample], pixels: Any) -> dict[str, np.ndarray]:
        return {sample.name: np.array([True, False, False]) for sample in samples}


def test_tags_are_believed_before_a_classifier(segmenter: Path) -> None:
    image, mask = stripes()
    model: Any = open_model(segmenter, "cpu")
    model._filter = Denying()
    free, red = model.predict([image] * 2, tags=[None, ["red"]])
    assert not free.mask.any()
    assert (red.mask[mask == 1] == 1).mean() > 0.9


def test_where_each_pixel_has_a_class_a_served_filter_leaves_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As that of predict_masks: else the whole mask would be a class that there is not."""
    few = np.array([[0.1, 0.2], [0.1, 0.9]])
    monkeypatch.setattr(served, "load_classifier", lambda _: (None, "multi_label"))
    monkeypatch.setattr(served, "class_probs", lambda *_: few)
    files = FilterFiles(Path(), 8, (0.5, 0.5))
    samples = [Sample(name, "", (8, 8), ()) for name in "ab"]
    for has_background, wanted in ((True, [True, False, False]), (False, [True, False, True])):
        of = ModelFiles(Path(), ("c", "d"), has_background, PredictMasksSettings(), files)
        made = served._Filter(of, files, SimpleNamespace(to_device=lambda model: model))
        found = made.present(samples, torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
        assert found["a"].tolist() == wanted
        assert found["b"].tolist() == [True, False, True]
