"""What is exported comes back as it was, in every format, whatever the masks are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsss.artifacts import Corrections, Manifest, mask_hash
from wsss.editors import FORMATS, export_annotations, import_annotations
from wsss.editors._base import Known
from wsss.editors.record import read_record


@st.composite
def masks(draw: st.DrawFn) -> tuple[int, dict[str, np.ndarray]]:
    """A number of classes, and masks of them: speckles, islands in holes, nothing, one pixel."""
    classes = draw(st.integers(1, 254))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = {}
    for name in draw(st.sampled_from([("a",), ("a", "sub/b é", "c&d")])):
        size = draw(st.integers(1, 13)), draw(st.integers(1, 13))
        values = [0, *rng.integers(1, classes + 1, 3).tolist(), 255]
        mask = rng.choice(values, size).astype(np.uint8)
        kind = draw(st.sampled_from(["speckles", "rings", "whole", "nothing"]))
        if kind == "rings":  # each within the other, a hole with an island in it
            y, x = np.mgrid[: size[0], : size[1]]
            depth = np.minimum.reduce([y, x, size[0] - 1 - y, size[1] - 1 - x])
            mask = np.array(values, np.uint8)[depth % len(values)]
        elif kind != "speckles":
            mask[:] = draw(st.sampled_from(values)) if kind == "whole" else 0
        found[name] = mask
    return classes, found


@pytest.mark.parametrize("kind", FORMATS)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)
@given(case=masks())
def test_identity(
    tmp_path: Path, new_project: Any, kind: str, case: tuple[int, dict[str, np.ndarray]]
) -> None:
    number, drawn = case
    root = tmp_path / str(len(list(tmp_path.iterdir())))
    project = new_project(root, drawn, tuple(f"kind {n}" for n in range(1, number + 1)))
    done = export_annotations(root, root / "out", kind)
    assert (done.images, done.corrected, done.kept) == (len(drawn), 0, 1)
    sent = read_record(root / "out/wsss_export.json").sent
    assert {name: item.returned for name, item in sent.items()} == {
        name: mask_hash(mask) for name, mask in drawn.items()
    }
    if kind == "label_studio":
        submit(root / "out/tasks.json")
    back = import_annotations(root, done.main, who="Ada", accept=True)
    assert len(back.added) == len(drawn)
    layer = Corrections.read(root)
    for name, mask in drawn.items():
        found = layer.read_mask(name, mask.shape, project.classes)
        assert (found == mask).all(), name
        assert layer.newest[name].origin_hash == mask_hash(mask)
        assert layer.newest[name].origin == "pseudo_masks"


def submit(path: Path) -> None:
    """What Label Studio exports when somebody submits its predictions as they are."""
    tasks = json.loads(path.read_text())
    for at, task in enumerate(tasks):
        own = {"id": at, "completed_by": 7, "updated_at": "2026-03-01T09:00:00.5Z"}
        task["annotations"] = [own | {"result": task["predictions"][0]["result"]}]
    path.write_text(json.dumps(tasks))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_export_has_the_same_bytes_and_ids(
    project: Any, tmp_path: Path, kind: str
) -> None:
    """And those of an image are the same wherever it stands in the list."""
    first = export_annotations(project.root, tmp_path / "1", kind).main
    again = export_annotations(project.root, tmp_path / "2", kind).main
    files = [path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.*")]
    assert files
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()
    if kind == "coco":
        export_annotations(project.root, tmp_path / "3", kind, names=["sub/b"])
        part, whole = (
            {row["file_name"]: row["id"] for row in json.loads(path.read_text())["images"]}
            for path in (tmp_path / "3/annotations.json", first)
        )
        assert part == {"sub/b.png": whole["sub/b.png"]}
        assert again.name == first.name


@pytest.mark.parametrize("kind", ["geojson", "yolo"])
def test_outlines_with_fewer_corners_say_what_they_lose(
    tmp_path: Path, new_project: Any, kind: str
) -> None:
    y, x = np.mgrid[:60, :80]
    distance = np.hypot(y - 30, x - 40)
    mask = ((distance < 25) & (distance > 8)).astype(np.uint8)
    project = new_project(tmp_path / "project", {"a": mask}, ("ring",))
    done = export_annotations(project.root, tmp_path / "out", kind, tolerance=1.5)
    assert 0.9 < done.kept < 1
    tool = FORMATS[kind]
    known = Known.of(Manifest.read(project.paths.splits), project.paths)
    (back,) = tool.read(tmp_path / "out", known).masks
    assert (back.draw(mask.shape, 0) == mask).mean() == done.kept
    # what nobody has touched is no correction, though it is not what was exported
    found = import_annotations(project.root, tmp_path / "out", who="Ada")
    assert found.unchanged == ["a"]
    assert not found.added


@pytest.mark.parametrize("kind", FORMATS)
def test_data_without_a_background(tmp_path: Path, new_project: Any, kind: str) -> None:
    rng = np.random.default_rng(0)
    mask = rng.choice([1, 2, 255], (7, 9)).astype(np.uint8)
    project = new_project(tmp_path / "p", {"a": mask}, ("roof", "grass"), has_background=False)
    done = export_annotations(project.root, tmp_path / "out", kind)
    if kind == "label_studio":
        submit(done.main)
    import_annotations(project.root, done.main, who="Ada", accept=True)
    assert (Corrections.read(project.root).read_mask("a", (7, 9)) == mask).all()


def test_a_packed_project_exports_the_same(project: Any, tmp_path: Path) -> None:
    export_annotations(project.root, tmp_path / "1", "coco")
    project.pack()
    assert not list(project.paths.images.glob("*.png"))
    export_annotations(project.root, tmp_path / "2", "coco")
    for name in ("annotations.json", "images/a.png", "images/sub/b.png"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
