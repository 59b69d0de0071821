"""The registered model in a process of its own, and as MLflow's server asks it."""

import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Manifest, Paths, read_image, read_label_png
from wsss.config.params import load_params
from wsss.serving.registering import register_segmenter
from wsss.tracking import tracking_uri

FRESH = """\
import sys, mlflow, numpy as np
uri, model, images, out = sys.argv[1:]
mlflow.set_tracking_uri(uri)
loaded = mlflow.pyfunc.load_model(model)
held = np.load(images)
several = np.empty(len(held.files), object)
several[:] = [held[name] for name in held.files]
np.savez(out, **dict(zip(held.files, loaded.predict(several))))
print(loaded.metadata.metadata["class_names"])
"""


def images_of(root: Path) -> dict[str, np.ndarray]:
    samples = Manifest.read(Paths(root).splits).splits["val"]
    return {sample.name: read_image(Paths(root).images / sample.image) for sample in samples}


def masks_of(root: Path) -> dict[str, np.ndarray]:
    folder = Paths(root).predictions / "val"
    return {name: read_label_png(folder / f"{name}.png") for name in images_of(root)}


@pytest.fixture
def model(project: Path) -> Any:
    """The project's segmenter, registered and loaded."""
    register_segmenter(project, load_params(), "wsss")
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(project))
    return mlflow.pyfunc.load_model("models:/wsss/1")


def test_a_fresh_process_predicts_what_predict_masks_did(
    project: Path, tmp_path: Path, train: Callable[[Path, int], None]
) -> None:
    """Elsewhere, with the database alone; also when the project has been moved since."""
    register_segmenter(project, load_params(), "wsss")
    expected = masks_of(project)
    assert len({mask.shape for mask in expected.values()}) == 3
    assert set(np.unique(np.concatenate([mask.ravel() for mask in expected.values()]))) == {0, 1, 2}
    np.savez(tmp_path / "images.npz", **images_of(project))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = [tracking_uri(project), "models:/wsss/1", "../images.npz", "../masks.npz"]
    command = [sys.executable, "-c", FRESH, *arguments]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['x', 'y']"
    with np.load(tmp_path / "masks.npz") as found:
        for name, mask in expected.items():
            assert found[name].dtype == np.uint8
            assert np.array_equal(found[name], mask), name


def served(model: Any, request: dict[str, Any]) -> Any:
    """As `mlflow models serve` answers a request."""
    from mlflow.pyfunc import scoring_server

    schema = model.metadata.get_input_schema()
    answer = scoring_server.invocations(json.dumps(request), "application/json", model, schema)
    assert answer.status == 200
    return json.loads(answer.response)["predictions"]


def text_of(image: np.ndarray, kind: str = "PNG") -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind)
    return base64.b64encode(file.getvalue()).decode()


def mask_in(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_a_server_takes_numbers_and_png_files(project: Path, model: Any) -> None:
    images, expected = images_of(project), masks_of(project)
    one_size = [name for name in images if images[name].shape == images["a"].shape]
    numbers = served(model, {"inputs": [images[name].tolist() for name in one_size]})
    assert len(one_size) == 2
    assert np.array_equal(numbers, [expected[name] for name in one_size])
    ragged = served(model, {"inputs": [image.tolist() for image in images.values()]})
    texts = [text_of(image) for image in images.values()]
    for request in (
        {"inputs": texts},
        {"instances": texts},
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
        {"dataframe_records": [{"image": text} for text in texts]},
    ):
        answered = served(model, request)
        for name, of_numbers, text in zip(images, ragged, answered, strict=True):
            assert np.array_equal(mask_in(text), expected[name])
            assert np.array_equal(of_numbers, expected[name])


def test_the_crf_can_be_left_out(
    project: Path, model: Any, rescore: Callable[[Path], None]
) -> None:
    params = project / "params.yaml"
    with_crf = masks_of(project)
    params.write_text(params.read_text().replace("crf:\n    n_iters: 2", "crf: null"))
    assert load_params().predict_masks.crf is None
    rescore(project)
    without = masks_of(project)
    assert any((with_crf[name] != without[name]).any() for name in with_crf)
    text = text_of(images_of(project)["a"])
    found = served(model, {"inputs": [text], "params": {"crf": False}})
    assert np.array_equal(mask_in(found[0]), without["a"])


def test_the_example_that_goes_with_the_model_works(model: Any) -> None:
    example = model.input_example
    assert list(example.columns) == ["image"]
    assert mask_in(model.predict(example)[0]).max() <= 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array(["!!"], object), "image 0 is a text that is not base64"),
        (np.array([text_of(np.zeros((2, 2, 3), np.uint8))[:40]], object), "cannot be read as an"),
        (np.zeros((2, 8, 8, 3)), "image 0 holds float64 values .* whole numbers in 0..255"),
        (np.full((1, 8, 8, 3), 256), "from 0 to 256"),
        (np.zeros((1, 8, 8), np.uint8), r"shape \(8, 8\); give \(height, width, 3\)"),
        (np.zeros((1, 0, 8, 3), np.uint8), "image 0 has no pixels"),
    ],
)
def test_what_is_no_image_is_said(model: Any, values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model.predict(values)
