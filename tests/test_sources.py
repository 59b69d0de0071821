"""What lies outside the project is listed by its contents, wherever and whenever it was copied."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from wsss import sources
from wsss.sources import LISTING, NOTE, expand_path, held, write_listing


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "cat").mkdir(parents=True)
    for name in ("cat/a.jpg", "cat/b.jpg", "tags.csv"):
        (folder / name).write_text(name)
    past = time.time() - 100
    for file in folder.rglob("*.*"):
        os.utime(file, (past, past))
    return folder


@pytest.fixture
def project(tmp_path: Path, photos: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    write(root, {"prepare_data": {"dataset": {"root": str(photos)}}, "refine": {"window": 0}})
    return root


def write(root: Path, params: object) -> None:
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def listing(root: Path, section: str = "prepare_data") -> dict[str, dict[str, object]]:
    write_listing(root)
    return json.loads((root / LISTING / f"{section}.json").read_text())


def test_every_way_a_folder_changes_is_seen(project: Path, photos: Path) -> None:
    seen = [listing(project)]

    def changed() -> bool:
        seen.append(listing(project))
        return seen[-1] != seen[-2]

    assert not changed()
    (photos / "cat/c.jpg").write_text("new")
    assert changed()
    (photos / "cat/c.jpg").write_text("NEW")  # of the same size
    assert changed()
    (photos / "cat/c.jpg").rename(photos / "cat/d.jpg")
    assert changed()
    (photos / "cat/d.jpg").unlink()
    assert changed()
    assert seen[-1] == seen[0]
    os.utime(photos / "cat/a.jpg")  # copied or touched, and the same
    assert not changed()
    (photos / ".DS_Store").write_text("a note of the desktop")
    assert not changed()


def test_linked_folders_are_followed_and_circles_end(project: Path, photos: Path) -> None:
    first = listing(project)["prepare_data.dataset.root"]
    store = photos.parent / "store"
    store.mkdir()
    (store / "x.jpg").write_text("x")
    (photos / "dog").symlink_to(store)
    (store / "circle").symlink_to(photos)
    (photos / "cat/up").symlink_to(photos.parent)
    (photos / "gone").symlink_to(photos / "nothing")
    found = listing(project)["prepare_data.dataset.root"]
    assert found["files"] == 4
    (store / "x.jpg").write_text("y")
    assert listing(project)["prepare_data.dataset.root"] != found
    assert first["files"] == 3


def test_contents_are_the_same_elsewhere(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "elsewhere")
    assert held(photos, tmp_path) == held(tmp_path / "elsewhere", tmp_path)


def test_what_was_read_is_not_read_again(
    project: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing(project)
    assert str(photos) in json.loads((project / NOTE).read_text())
    monkeypatch.setattr(sources, "_hash", lambda file: pytest.fail(f"{file} is read again"))
    listing(project)


def test_what_is_not_on_this_machine_keeps_its_entry(
    project: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the results but not their source need not make them again."""
    monkeypatch.setenv("PHOTOS", str(photos))
    write(project, {"prepare_data": {"root": "$PHOTOS", "background_images": "$PHOTOS/none"}})
    before = listing(project)
    assert list(before) == ["prepare_data.root"]
    monkeypatch.delenv("PHOTOS")
    assert listing(project) == before
    write(project, {"prepare_data": {"root": "$OTHER"}})
    assert listing(project) == {}


def test_every_section_has_a_listing_and_files_of_weights_count(
    project: Path, photos: Path
) -> None:
    weights = photos / "cat/a.jpg"
    values = {"train_teachers": {"a": {"backbone": {"weights": str(weights)}}}, "refine": {}}
    write(project, values)
    assert listing(project, "refine") == {}
    before = listing(project, "train_teachers")
    assert list(before) == ["train_teachers.a.backbone.weights"]
    weights.write_text("trained on")
    assert listing(project, "train_teachers") != before


def test_a_folder_with_the_project_in_it_is_listed_without_what_stages_make(
    project: Path,
) -> None:
    write(
        project,
        {"prepare_data": {"root": str(project), "background_images": str(project / "data")}},
    )
    (project / "a.jpg").write_text("a")
    before = listing(project)["prepare_data.root"]
    for name in ("data/images/x.png", "models/m", "reports/r.json", "mlflow.db", "dvc.lock"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("made")
    assert listing(project)["prepare_data.root"] == before


def test_wrong_settings_are_left_for_the_stages_to_name(project: Path) -> None:
    (project / "params.yaml").write_text("a: [")
    write_listing(project)
    (project / "params.yaml").unlink()
    write_listing(project)


def test_a_relative_path_means_the_project_in_a_queued_experiment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, copy = tmp_path / "home", tmp_path / "home/.dvc/tmp/exps/tmp1"
    (tmp_path / "photos").mkdir()
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert expand_path("../photos", "root") == Path("../photos")
    monkeypatch.setenv("DVC_ROOT", str(home))
    assert expand_path("../photos", "root").resolve() == tmp_path / "photos"
    (copy / "photos").mkdir()  # what the copy has is the experiment's own
    assert expand_path("photos", "root") == Path("photos")


def test_listing_imports_nothing_heavy(project: Path) -> None:
    code = (
        "import sys; from wsss.sources import write_listing; write_listing()\n"
        "print(sorted({'numpy', 'pydantic', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
