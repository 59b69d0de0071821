"""`wsss annotations`: to a tool and back, and what is said on the way."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsss.artifacts import Manifest, Paths, Sample, write_label_png
from wsss.cli.app import app


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Three images of cats, of which one is of val; the current folder is its root."""
    root = tmp_path / "project"
    paths, size = Paths(root), (8, 10)
    samples = {}
    for name in ("a", "b", "v"):
        paths.images.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(paths.images / f"{name}.png")
        write_label_png(paths.pseudo_masks / f"{name}.png", np.eye(*size, dtype=np.uint8))
        samples[name] = Sample(name, f"{name}.png", size, (1,))
    splits = {"train": (samples["a"], samples["b"]), "selection": (), "val": (samples["v"],)}
    Manifest(("cat",), splits).write(paths.splits)
    (root / "params.yaml").touch()
    (root / "dvc.yaml").touch()
    monkeypatch.chdir(root)
    return paths


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["annotations", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_there_and_back(project: Paths) -> None:
    assert "nobody has corrected anything" in run("list")
    Path("worst.csv").write_text("image,score\nv,0.1\na,0.2\n")
    said = run("export", "out", "--to", "voc_png", "--images", "worst.csv")
    assert "pseudo masks of 2 images for voc_png" in said
    for name in ("a", "v"):
        write_label_png(Path(f"out/SegmentationClass/{name}.png"), np.ones((8, 10), np.uint8))
    said = run("import", "out", "--who", "Ada", "--when", "2026-03-01T09:30:00Z")
    assert "corrections that were added: 2, train 1, val 1" in said
    assert "nothing is learned from those of val" in said
    assert "git add" not in said  # it is no project of DVC's
    write_label_png(Path("out/SegmentationClass/a.png"), np.zeros((8, 10), np.uint8))
    said = run("import", "out", "--who", "Grace", "--when", "2026-03-02T09:30:00Z")
    assert "1 corrections were there already" in said
    assert "'a' was corrected by Ada, Grace: the last is the newest, and counts" in said
    lines = run("list").splitlines()
    assert lines[0].startswith("a: Ada, 2026-03-01T09:30:00Z, of pseudo_masks")
    assert lines[0].endswith("a newer one counts")
    assert lines[-1] == "corrections: 3, images: 2, people: 2"
    rows = json.loads(run("list", "--json"))
    assert [(row["image"], row["who"], row["counts"]) for row in rows] == [
        ("a", "Ada", False),
        ("a", "Grace", True),
        ("v", "Ada", True),
    ]
    assert "1 of them are corrected already" in run(
        "export", "next", "--to", "coco", "--split", "train"
    )


def test_outlines_say_what_is_lost(project: Paths) -> None:
    assert "nothing is lost" in run("export", "1", "--to", "yolo")
    mask = np.zeros((8, 10), np.uint8)
    mask[2:6, 2:8] = mask[1, 4] = 1
    write_label_png(project.pseudo_masks / "a.png", mask)
    said = run("export", "2", "--to", "geojson", "--tolerance", "1", "--without-images")
    assert "% of pixels change" in said
    said = run("import", "1", "--who", "Ada", "--accept")
    assert "they are outlines" in said


def test_advice_that_is_followed_works(project: Paths) -> None:
    run("export", "out", "--to", "napari")
    assert "name them with --who" in run("import", "out", code=1)
    said = run("import", "out", "--who", "Ada")
    assert "left out, unchanged since the export: 3" in said
    assert "--accept takes them" in said
    assert "corrections that were added: 3" in run("import", "out", "--accept", "--who", "Ada")


@pytest.mark.parametrize("tracked", [True, False])
def test_dvc_keeps_them_and_a_fetch_that_is_missing_is_said(project: Paths, tracked: bool) -> None:
    if tracked:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], capture_output=True, text=True
        )
        assert not done.returncode, done.stderr
    run("export", "out", "--to", "napari")
    said = run("import", "out", "--who", "Ada", "--accept")
    file = Path("data/corrections.dvc")
    assert file.is_file() == tracked
    assert ("git add data/corrections.dvc" in said) == tracked
