"""What docs/export.md shows works as it stands."""

import re
import shlex
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.export import FORMATS, Exported
from wsss.prediction.description import Description

PAGE = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^(wsss export .*?)(?: *#.*)?$", PAGE, re.MULTILINE)


def test_the_code_runs(
    exported: Callable[..., Path],
    exported_classifier: Path,
    batches: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(name, reason=f"needs {name}: pip install '.[onnx,openvino]'")
    for format in FORMATS:
        for part in exported("unet_small", format).parent.iterdir():
            shutil.copy(part, tmp_path / f"model{part.suffix}")
    shutil.copy(exported_classifier, tmp_path)
    Image.fromarray(batches[0][0]).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    found = []
    for block in BLOCKS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(block, names)
        found.append(names["probs"])
    assert len(BLOCKS) == 5
    height, width = batches[0].shape[1:3]
    assert names["mask"].shape == names["found"].mask.shape == (height, width)
    assert set(np.unique(names["found"].mask)) <= {0, 1}
    assert names["class_names"] == ["red", "green"]
    assert names["cams"].shape == (1, 2, height, width) and np.isclose(names["cams"].max(), 1)
    for probs in (found[3], found[4].numpy()):  # of OpenVINO and torch.export
        assert np.abs(probs - found[0]).max() < 1e-4


def test_the_commands_are_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def export_model(model: str, out: Path, format: str, **options: Any) -> Exported:
        asked.append((model, out.name, format, options["scales"], options["flip"]))
        known = Description("segmenter", ("a",), True, {"scales": [1.0], "flip": False})
        return Exported(known, 1e-6, 1, ())

    monkeypatch.setattr("wsss.export.export_model", export_model)
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, (command, done.output)
        assert "compared with PyTorch on generated images: within 1e-06" in done.output
    assert asked == [
        ("models/segmenter", "model.onnx", "onnx", None, None),
        ("models/segmenter", "fast.onnx", "onnx", [1.0], False),
        ("models/classifier", "classifier.onnx", "onnx", [1.0], False),
        ("models/segmenter", "model.xml", "openvino", None, None),
        ("models/segmenter", "model.pt2", "torch_export", None, None),
    ]
