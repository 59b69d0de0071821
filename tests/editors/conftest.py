"""Projects of random pictures and masks, as files between stages."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, pack_folder, write_label_png


class Project:
    """Images with pseudo masks, of which those called val are of that split."""

    def __init__(
        self,
        root: Path,
        masks: Mapping[str, np.ndarray],
        classes: tuple[str, ...],
        *,
        has_background: bool = True,
    ) -> None:
        self.root, self.paths, self.masks, self.classes = root, Paths(root), masks, classes
        splits: dict[str, list[Sample]] = {"train": [], "selection": [], "val": []}
        for name, mask in sorted(masks.items()):
            path = self.paths.images / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(path)
            write_label_png(self.paths.pseudo_masks / f"{name}.png", mask)
            split = "val" if name.startswith("val") else "train"
            splits[split].append(Sample(name, f"{name}.png", mask.shape, ()))
        lists = {split: tuple(samples) for split, samples in splits.items()}
        Manifest(classes, lists, has_background=has_background).write(self.paths.splits)

    def pack(self) -> None:
        for folder in (self.paths.images, self.paths.pseudo_masks):
            pack_folder(folder)


@pytest.fixture
def new_project() -> type[Project]:
    """Starts a project of masks by name."""
    return Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Four images of cats and dogs; the current masks are random."""
    rng = np.random.default_rng(0)
    names = ("a", "sub/b", "c c", "val1")
    masks = {name: rng.choice([0, 1, 2, 255], (12, 16)).astype(np.uint8) for name in names}
    return Project(tmp_path / "project", masks, ("cat", "dog"))
