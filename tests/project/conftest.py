"""Folders of small photographs, as people have them: a square of the class's colour on grey."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = (48, 56)
COLOURS = {"cat": (220, 60, 40), "dog": (40, 80, 220), "scratch": (240, 240, 90)}


class Photographs:
    """A folder of them; what is drawn where follows from one seed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rng = np.random.default_rng(5)

    def add(self, name: str, kind: str = "", mask: str = "", value: int = 255) -> tuple[int, ...]:
        """Draw one; give left, top, right and bottom of its square."""
        image = self.rng.integers(90, 130, (*SIZE, 3)).astype(np.uint8)
        top, left = (int(at) for at in self.rng.integers(2, (SIZE[0] - 24, SIZE[1] - 24)))
        drawn = np.zeros(SIZE, np.uint8)
        if kind:
            image[top : top + 22, left : left + 22] = COLOURS[kind]
            drawn[top : top + 22, left : left + 22] = value
        self._save(name, image)
        if mask:
            self._save(mask, drawn)
        return left, top, left + 22, top + 22

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def _save(self, name: str, pixels: np.ndarray) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def by_class(root: Path, count: int = 12) -> Photographs:
    """Sub-folders are the classes; black and white masks lie beside them, laid out alike."""
    made = Photographs(root)
    for kind in ("cat", "dog"):
        for at in range(count):
            made.add(f"{kind}/{at:02}.png", kind, f"masks/{kind}/{at:02}.png")
    return made


def by_table(root: Path, count: int = 24, table: str = "tags.csv") -> Photographs:
    """A table of tags beside a folder of images, a third of them without any class."""
    made = Photographs(root)
    kinds = [("cat", "dog", "")[at % 3] for at in range(count)]
    for at, kind in enumerate(kinds):
        made.add(f"images/{at:02}.jpg", kind)
    lines = [f"{at:02}.jpg,{kind or 'none'}" for at, kind in enumerate(kinds)]
    made.write(table, "\n".join(["image,tags", *lines]))
    return made


def by_parts(root: Path) -> Photographs:
    """Good and defective parts, in the layout that anomalib reads."""
    made = Photographs(root)
    for at in range(10):
        made.add(f"train/good/{at:03}.png")
        made.add(f"test/scratch/{at:03}.png", "scratch", f"ground_truth/scratch/{at:03}_mask.png")
    return made


def by_coco(root: Path) -> Photographs:
    """A file of objects beside the images of each split."""
    made = Photographs(root)
    for split, count in (("train", 12), ("valid", 6)):
        images, objects = [], []
        for at in range(count):
            kind = at % 2
            box = made.add(f"{split}/{at:02}.jpg", ("cat", "dog")[kind])
            images.append({"id": at, "file_name": f"{at:02}.jpg", "height": 48, "width": 56})
            left, top, right, bottom = box
            outline = [left, top, right, top, right, bottom, left, bottom]
            objects.append(
                {
                    **{"id": at, "image_id": at, "category_id": kind + 1, "iscrowd": 0},
                    **{"bbox": [left, top, 22, 22], "area": 484, "segmentation": [outline]},
                }
            )
        kinds = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        tree = {"images": images, "annotations": objects, "categories": kinds}
        made.write(f"{split}/_annotations.coco.json", json.dumps(tree))
    return made


def by_voc(root: Path) -> Photographs:
    """JPEGImages, an XML of objects for each, and lists."""
    made = Photographs(root)
    names = [f"{at:02}" for at in range(16)]
    for at, name in enumerate(names):
        kind = ("cat", "dog")[at % 2]
        left, top, right, bottom = made.add(f"JPEGImages/{name}.jpg", kind)
        corners = f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
        corners += f"<xmax>{right}</xmax><ymax>{bottom}</ymax>"
        found = f"<object><name>{kind}</name><bndbox>{corners}</bndbox></object>"
        size = "<size><width>56</width><height>48</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.jpg</filename>{size}{found}</annotation>"
        made.write(f"Annotations/{name}.xml", text)
    made.write("ImageSets/Main/train.txt", "\n".join(names[:12]))
    made.write("ImageSets/Main/val.txt", "\n".join(names[12:]))
    return made


LAYOUTS: dict[str, Callable[[Path], Photographs]] = {
    "a sub-folder per class": by_class,
    "a table of tags": by_table,
    "good and defective parts": by_parts,
    "COCO": by_coco,
    "PASCAL VOC": by_voc,
}

TINY = [
    "machine.num_workers=0",
    "machine.accelerator=cpu",
    "train_classifier.epochs=1",
    "train_segmenter.epochs=1",
    "generate_cams.scales=[1.0]",
    "generate_cams.flip=false",
    "predict_masks.scales=[1.0]",
    "predict_masks.flip=false",
]
"""Values with which stages take seconds, and learn nothing."""


@pytest.fixture
def layouts() -> dict[str, Callable[[Path], Photographs]]:
    return LAYOUTS


@pytest.fixture
def tiny() -> list[str]:
    return [part for value in TINY for part in ("--set", value)]


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a launcher or a server of the machine's own may have set is not meant for these."""
    for name in ("WSSS_ENGINE", "LOCAL_RANK", "RANK", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
