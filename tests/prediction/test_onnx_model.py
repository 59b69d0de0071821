"""A segmenter in an .onnx file predicts what the folder that it came from does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wsss
from wsss.prediction import open_model
from wsss.prediction.onnx_model import OnnxModel

SETTINGS = """\
base: {recipe: mine}
prepare_data: {pixel_range: [0, 4095], long_side_max: 128}
predict_masks:
  scales: [0.75, 1.0]
  flip: true
  window: 96
  window_overlap: 0.25
  batch_size: 2
  crf: {n_iters: 2, sigma_rgb: 30}
"""
MASKS = """\
import sys
sys.modules["torch"] = None
import numpy as np
from wsss.prediction import open_model
model = open_model(sys.argv[1])
images = np.load(sys.argv[2])["images"]
found = model.predict(list(images), tags=[["red"]] * len(images), crf=False)
np.save(sys.argv[3], [item.mask for item in found])
"""


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, colour_segmenter: Callable[..., Path]
) -> Path:
    """With models/segmenter and colours.onnx, as `wsss export` writes it."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"needs {name}: pip install '.[onnx]'")
    root = tmp_path_factory.mktemp("project")
    colour_segmenter(root)
    (root / "params.yaml").write_text(SETTINGS)
    (root / "dvc.yaml").write_text("stages: {}\n")
    command = [sys.executable, "-m", "wsss", "export", "models/segmenter", "--out", "colours.onnx"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for said in (
        "colours.onnx: a segmenter of 2 classes, scales 0.75, 1, with mirrored images",
        "compared with PyTorch on generated images: within",
        "an image is 4 runs of the network",
        "note: the dense CRF of predict_masks is not in the graph",
        "note: images of more than 96 pixels are not cut into windows by the graph",
        "note: the network has learned from images of at most 128 pixels",
        "note: prepare_data.pixel_range was [0.0, 4095.0]; wsss reads files so",
        "note: the file has no scores: the segmenter was not scored",
    ):
        assert said in done.stdout
    return root


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Some of them larger than a window."""
    draw, found = np.random.default_rng(0), []
    for height, width in ((64, 64), (33, 90), (1, 1), (130, 97), (64, 64), (20, 250)):
        cells = draw.integers(0, 256, (-(-height // 16), -(-width // 16), 3), np.uint8)
        grown = cells.repeat(16, axis=0).repeat(16, axis=1)[:height, :width].astype(int)
        noisy = grown + draw.integers(-9, 10, grown.shape)
        found.append(noisy.clip(0, 255).astype(np.uint8))
    return found


def test_files_become_what_the_network_has_learned_from(project: Path, tmp_path: Path) -> None:
    """Settings of prepare_data go with the file, and may be changed as of a folder."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 1] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    grey = np.zeros((40, 60), np.uint16)
    grey[:, 30:] = 4095
    Image.fromarray(grey).save(tmp_path / "deep.png")
    file, folder = open_model(project / "colours.onnx"), open_model(project, "cpu")
    assert file.about["images"] == folder.about["images"]
    for name in ("stripes.png", "deep.png"):
        for image in (tmp_path / name, Image.open(tmp_path / name)):
            found, wanted = (wsss.predict(one, image, crf=False) for one in (file, folder))
            np.testing.assert_array_equal(found.labels, wanted.labels)
    other = {"prepare_data.pixel_range": [0, 65535], "prepare_data.long_side_max": 0}
    file, folder = (
        open_model(place, "cpu", other) for place in (project / "colours.onnx", project)
    )
    assert file.about["images"] == folder.about["images"] != open_model(project).about["images"]
    with pytest.raises(ValueError, match=r"'predict_masks.window' of .* is within the file"):
        open_model(project / "colours.onnx", settings={"predict_masks.window": 64})


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("tagged", [False, True])
def test_masks_and_probabilities_are_those_of_the_network(
    crf: bool, tagged: bool, project: Path, images: list[np.ndarray]
) -> None:
    network, file = open_model(project, "cpu"), open_model(project / "colours.onnx")
    assert isinstance(file, OnnxModel)
    of_each = [["red"], None, [], ["green", "red"], ["green"], None]
    options = {"probs": True, "crf": crf, "tags": of_each if tagged else None}
    seen = set()
    for a, b in zip(
        network.predict(images, **options), file.predict(images, **options), strict=True
    ):
        assert a.probs is not None and b.probs is not None
        assert b.probs.dtype == np.float32 and np.abs(a.probs - b.probs).max() < 1e-3
        ranked = np.sort(a.probs, axis=0)
        tied = ranked[-1] - ranked[-2] < 2e-3
        assert ((a.mask == b.mask) | tied).all() and tied.mean() < 0.05
        assert b.mask.dtype == np.uint8 and np.array_equal(b.probs.argmax(axis=0), b.mask)
        seen.update(np.unique(b.mask).tolist())
    assert seen == {0, 1, 2}
    plain = file.predict(images, tags=options["tags"], crf=crf)
    assert all(item.probs is None for item in plain)


def test_the_file_knows_what_the_folder_does(project: Path) -> None:
    network, file = open_model(project, "cpu"), open_model(project / "colours.onnx")
    assert file.class_names == network.class_names == ("red", "green")
    assert file.has_background is network.has_background is True
    assert np.array_equal(file.palette, network.palette)
    assert file.about["arch"] == "unet_small" and file.about["recipe"] == "mine"
    assert file.about["settings"]["scales"] == [0.75, 1.0]
    assert file.about["settings"]["crf"]["sigma_rgb"] == 30
    assert len(file.about["key"]) > 20


def test_pytorch_is_not_needed(project: Path, images: list[np.ndarray], tmp_path: Path) -> None:
    same = np.stack([images[0], images[4]])
    np.savez(tmp_path / "images.npz", images=same)
    places = [project / "colours.onnx", tmp_path / "images.npz", tmp_path / "masks.npy"]
    command = [sys.executable, "-c", MASKS, *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    network = open_model(project, "cpu")
    expected = network.predict(list(same), tags=[["red"]] * 2, crf=False)
    assert np.array_equal(np.load(places[2]), [item.mask for item in expected])


def test_what_is_given_wrongly_is_said(project: Path, images: list[np.ndarray]) -> None:
    model = open_model(project / "colours.onnx")
    for given, said in (
        ([images[0] / 255], "image 0 must be uint8, but is float64"),
        ([np.zeros((0, 5, 3), np.uint8)], "image 0 has no pixels"),
    ):
        with pytest.raises(ValueError, match=said):
            model.predict(given)
    with pytest.raises(ValueError, match=r"name 'rde', which is no class.* did you mean 'red'"):
        model.predict(images[:1], tags=[["rde"]])
    assert model.predict([]) == []


def test_files_that_are_no_model_are_said(project: Path, tmp_path: Path) -> None:
    import onnx

    file = tmp_path / "a.onnx"
    file.write_bytes((project / "colours.onnx").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"a\.onnx cannot be read as an ONNX model"):
        OnnxModel(file)
    model = onnx.load(project / "colours.onnx")
    known = {item.key: item.value for item in model.metadata_props}
    onnx.helper.set_model_props(model, known | {"kind": "classifier"})
    onnx.save(model, file)
    with pytest.raises(ValueError, match="is a classifier, which gives no masks; export models/s"):
        OnnxModel(file)
    onnx.helper.set_model_props(model, {"classes": known["classes"]})
    onnx.save(model, file)
    with pytest.raises(ValueError, match="does not say what it is: it has no kind, has_background"):
        open_model(file)
    onnx.helper.set_model_props(model, known | {"settings": "{"})
    onnx.save(model, file)
    with pytest.raises(ValueError, match=r"the metadata of .*a\.onnx are damaged"):
        open_model(file)
    with pytest.raises(ValueError, match=r"there is no file .*b\.onnx; write one with"):
        OnnxModel(tmp_path / "b.onnx")


def test_a_missing_runtime_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"needs ONNX Runtime.*pip install onnxruntime"):
        open_model(project / "colours.onnx")
