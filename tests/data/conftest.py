"""A folder of images, and files of tags beside them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsss.data import RawDataset
from wsss.data.folder import Folder, FolderSettings


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., RawDataset]:
    """Reads a file of tags of the images a to h, the first of which it may be about."""
    (tmp_path / "images").mkdir()
    for name in "abcdefgh":
        (tmp_path / f"images/{name}.jpg").touch()

    def collect(text: Any, file: str = "t.csv", **settings: Any) -> RawDataset:
        data = text if isinstance(text, str) else json.dumps(text)
        (tmp_path / file).write_text(data, encoding="utf-8")
        values = {"root": str(tmp_path), "images": "images", "tags": file} | settings
        return Folder(FolderSettings(**values)).collect(tmp_path / "scratch", 0)

    return collect
