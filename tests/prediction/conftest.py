"""A project whose network knows colours, and images of which the truth is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.prediction import Model, open_model

COLOURS = np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)


@pytest.fixture(scope="session")
def project(
    tmp_path_factory: pytest.TempPathFactory, colour_segmenter: Callable[..., Path]
) -> Path:
    """At one scale, and in batches of two; not to be changed."""
    root = tmp_path_factory.mktemp("project")
    colour_segmenter(root)
    (root / "params.yaml").write_text(
        "predict_masks: {scales: [1.0], flip: false, batch_size: 2}\n"
    )
    return root


@pytest.fixture(scope="session")
def model(project: Path) -> Model:
    return open_model(project, "cpu")


@pytest.fixture(scope="session")
def write_image() -> Callable[..., np.ndarray]:
    """Writes an image of random red, green and blue pixels, and gives its mask."""

    def write(path: Path, size: tuple[int, int] = (32, 64), **options: Any) -> np.ndarray:
        seed = sum(path.as_posix()[-9:].encode())
        mask = np.random.default_rng(seed).integers(0, 3, size).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLOURS[mask]).save(path, **options)
        return mask

    return write
