"""A registered model is opened by its name, its run or its files, and predicts the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from wsss.artifacts import Manifest, Paths, read_image, read_label_png
from wsss.config.params import load_params
from wsss.prediction import open_model
from wsss.serving.registering import register_segmenter


def test_a_registered_model_is_opened_wherever_it_is(project: Path, tmp_path: Path) -> None:
    paths = Paths(project)
    version, _ = register_segmenter(project, load_params(), "wsss")
    (held,) = (project / "mlartifacts").rglob("MLmodel")
    shutil.copytree(held.parent, tmp_path / "downloaded")
    samples = Manifest.read(paths.splits).splits["val"]
    images = [read_image(paths.images / sample.image) for sample in samples]
    keys = set()
    for place in (
        "models:/wsss",
        f"models:/{version.label}",
        f"runs:/{version.run_id}/model",
        tmp_path / "downloaded",
        tmp_path / "downloaded/artifacts/package",
        project,
    ):
        model = open_model(place, "cpu")
        keys.add(model.about["key"])
        for sample, found in zip(samples, model.predict(images), strict=True):
            expected = read_label_png(paths.predictions / f"val/{sample.name}.png")
            assert np.array_equal(found.mask, expected), (place, sample.name)
    about = open_model("models:/wsss", "cpu").about
    assert about["version"] == "wsss/1" and about["recipe"] == load_params().base.recipe
    assert about["scores"]["val/mean_iou"] == float(version.tags["val/mean_iou"])
    assert open_model(tmp_path / "downloaded", "cpu").about["scores"].keys() == {"val/mean_iou"}
    assert len(keys) == 1

    weights = tmp_path / "downloaded/artifacts/package/segmenter/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ValueError, match="is not what was registered: the hash of its package"):
        open_model(tmp_path / "downloaded", "cpu")
    with pytest.raises(ConnectionError, match=f"'nothing' of the run {version.run_id} cannot be"):
        open_model(f"runs:/{version.run_id}/nothing", "cpu")
