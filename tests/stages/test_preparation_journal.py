"""The journal of prepared images: what a kill or a bad disk broke of it is done again, no more."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.data import RawSample
from wsss.stages import _preparation as preparation


def prepare(root: Path, *, resumed: bool) -> list[str]:
    """Prepare three images; the names of those that were opened."""
    opened: list[str] = []
    original = preparation.prepare_image

    def noted(source: Path, out: Path, name: str, **settings: object) -> object:
        opened.append(name)
        return original(source, out, name, **settings)  # type: ignore[arg-type]

    samples = []
    for name in ("a", "b", "c"):
        image = root / "raw" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        if not image.exists():
            Image.fromarray(np.full((4, 5, 3), 90, np.uint8)).save(image)
        samples.append(RawSample(name, image, (1,)))
    for folder in ("images", "masks"):
        (root / folder).mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "prepare_image", noted)
        done = preparation.Preparation(1, root / "images", root / "masks", resumed=resumed)
        assert len(done.all({"train": samples})["train"]) == 3
    return sorted(opened)


@pytest.mark.parametrize(
    "damage",
    [b'{"name": "b", "sta', b"\xff\xfe half", b"\0\0\0", b"[1]", b'"b"', b"7", b'{"name": "b"}'],
)
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_damaged_line_costs_its_image_alone(tmp_path: Path, damage: bytes, end: bytes) -> None:
    assert prepare(tmp_path, resumed=False) == ["a", "b", "c"]
    journal = tmp_path / "images/.work.journal.jsonl"
    lines = {json.loads(line)["name"]: line for line in journal.read_bytes().splitlines()}
    journal.write_bytes(lines["a"] + b"\n" + lines["c"] + b"\n" + damage + end)
    assert prepare(tmp_path, resumed=True) == ["b"]
    assert prepare(tmp_path, resumed=True) == []
