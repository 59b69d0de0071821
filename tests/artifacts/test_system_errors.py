"""What the system is to blame for is never taken for a damaged file, which would be left out."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.artifacts import (
    Proposals,
    ScoreMap,
    read_image,
    read_label_png,
    read_proposals,
    read_score_map,
    write_label_png,
    write_proposals,
    write_score_map,
)
from wsss.data.images import open_rgb
from wsss.models.weights import read_weights
from wsss.training.checkpoint import load_checkpoint, save_checkpoint

Reader = Callable[[Path], Any]


def image(path: Path) -> None:
    Image.new("RGB", (4, 3)).save(path)


def scores(path: Path) -> None:
    maps = np.ones((1, 2, 2), np.float32)
    write_score_map(path, ScoreMap(np.array([1], np.uint8), maps, (4, 4), np.ones(1, np.float32)))


def proposals(path: Path) -> None:
    none = np.zeros(0, np.int32)
    write_proposals(
        path, Proposals(none, none, np.zeros(1, np.int32), np.zeros(0, np.float32), (2, 2))
    )


READERS: dict[str, tuple[str, Callable[[Path], None], Reader]] = {
    "image": ("a.png", image, read_image),
    "users image": ("a.png", image, open_rgb),
    "mask": (
        "a.png",
        lambda path: write_label_png(path, np.ones((2, 2), np.uint8)),
        read_label_png,
    ),
    "scores": ("a.npz", scores, read_score_map),
    "proposals": ("a.npz", proposals, read_proposals),
    "checkpoint": ("a.pt", lambda path: save_checkpoint(path, {"epoch": 1}), load_checkpoint),
    "weights": ("a.pt", lambda path: torch.save({"w": torch.zeros(2)}, path), read_weights),
}


@contextmanager
def no_further_files() -> Iterator[None]:
    """No file can be opened, as with a low `ulimit -n`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("kind", READERS)
def test_too_many_open_files_are_no_damaged_file(kind: str, tmp_path: Path) -> None:
    name, write, read = READERS[kind]
    write(tmp_path / name)
    read(tmp_path / name)  # imports what it needs
    with pytest.raises((OSError, RuntimeError)) as raised, no_further_files():
        read(tmp_path / name)
    assert not isinstance(raised.value, ValueError)
    assert "oo many open files" in str(raised.value)


@pytest.mark.parametrize("kind", READERS)
def test_a_lack_of_memory_is_no_damaged_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write, read = READERS[kind]
    write(tmp_path / name)

    def refuse(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 3 TiB")

    for place, what in ((np, "load"), (torch, "load"), (Image, "open")):
        monkeypatch.setattr(place, what, refuse)
    with pytest.raises(MemoryError):
        read(tmp_path / name)
