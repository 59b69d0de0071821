"""Fetching a registered segmenter: the same files, or none."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from wsss.artifacts import Manifest, Paths, contents, write_json
from wsss.config.params import load_params
from wsss.prediction.store import ModelStore, Wanted
from wsss.serving.fetching import fetch_segmenter
from wsss.serving.registering import register_segmenter
from wsss.tracking import tracking_uri
from wsss.tracking.registered import registered_versions

Train = Callable[[Path, int], None]


def test_the_folder_comes_back(project: Path, tmp_path: Path, train: Train) -> None:
    version, _ = register_segmenter(project, load_params(), "wsss")
    before = contents(Paths(project).segmenter)
    train(project, 5)
    assert contents(Paths(project).segmenter) != before
    found = ModelStore(project).find(Wanted.read("wsss"))
    assert found.label == version.label
    assert fetch_segmenter(project, found, Paths(project).segmenter, load_params()) == {}
    assert contents(Paths(project).segmenter) == before == version.tags["segmenter"]
    fetch_segmenter(project, found, tmp_path / "a/b")
    assert contents(tmp_path / "a/b") == before
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_other_settings_of_prediction_are_said(project: Path) -> None:
    version, _ = register_segmenter(project, load_params(), "wsss")
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("flip: true", "flip: false"))
    other = fetch_segmenter(project, version, Paths(project).segmenter, load_params())
    assert other == {"predict_masks.flip": "true"}


def test_a_project_that_was_moved_has_its_models(project: Path, tmp_path: Path) -> None:
    version, _ = register_segmenter(project, load_params(), "wsss")
    moved = tmp_path / "moved"
    project.rename(moved)
    fetch_segmenter(moved, version, tmp_path / "fetched")
    assert contents(tmp_path / "fetched") == version.tags["segmenter"]


def test_a_damaged_model_does_not_arrive(project: Path, tmp_path: Path) -> None:
    version, _ = register_segmenter(project, load_params(), "wsss")
    (weights,) = (project / "mlartifacts").rglob("weights.safetensors")
    whole = weights.read_bytes()
    before = contents(Paths(project).segmenter)
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:1000]):
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match="wsss/1 is not what was registered: its hash"):
            fetch_segmenter(project, version, Paths(project).segmenter, load_params())
    shutil.rmtree(project / "mlartifacts")
    with pytest.raises(ConnectionError, match=rf"(?s)wsss/1 cannot be fetched .*{version.run_id}"):
        fetch_segmenter(project, version, tmp_path / "fetched")
    assert contents(Paths(project).segmenter) == before
    assert not (tmp_path / "fetched").exists()


def test_what_is_something_else_is_not_replaced(project: Path, tmp_path: Path) -> None:
    version, _ = register_segmenter(project, load_params(), "wsss")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    with pytest.raises(ValueError, match="holds something else than a segmenter"):
        fetch_segmenter(project, version, tmp_path / "photos")
    write_json(tmp_path / "classifier/model.json", {"backbone": {}, "head": {}, "class_names": []})
    (tmp_path / "classifier/weights.safetensors").touch()
    shutil.copytree(Paths(project).segmenter, tmp_path / "kept")
    (tmp_path / "kept/notes.txt").touch()
    for folder, said in (("classifier", ""), ("kept", ", such as notes.txt")):
        before = contents(tmp_path / folder)
        with pytest.raises(ValueError, match=f"holds something else than a segmenter{said}; name"):
            fetch_segmenter(project, version, tmp_path / folder)
        assert contents(tmp_path / folder) == before
    with pytest.raises(ValueError, match="is a file; name a folder"):
        fetch_segmenter(project, version, tmp_path / "photos/a.jpg")
    splits = Paths(project).splits
    Manifest(("x", "z"), Manifest.read(splits).splits).write(splits)
    with pytest.raises(ValueError, match=r"knows the classes x, y, but .* has x, z.*--to"):
        fetch_segmenter(project, version, Paths(project).segmenter, load_params())
    fetch_segmenter(project, version, tmp_path / "fetched")


def test_names_that_are_not_there(project: Path, train: Train) -> None:
    store = ModelStore(project)
    with pytest.raises(ValueError, match=r"no model is registered in .*wsss models register"):
        store.find(Wanted.read("wsss"))
    register_segmenter(project, load_params(), "wsss")
    train(project, 5)
    register_segmenter(project, load_params(), "wsss")
    for text, said in {
        "wss": "no model is named 'wss'; did you mean 'wsss'",
        "wsss@champion": "no version with the alias 'champion'; it has wsss/1; wsss/2",
        "wsss": "no version with the alias 'champion'; it has wsss/1; wsss/2",
        "wsss/7": "has no version 7; it has wsss/1; wsss/2",
    }.items():
        with pytest.raises(ValueError, match=said):
            store.find(Wanted.read(text))
    with pytest.raises(ValueError, match="'a/b/c' names no model; write NAME, NAME@ALIAS"):
        Wanted.read("a/b/c")
    assert store.find(Wanted.read("models:/wsss/2")).number == 2


def test_the_database_says_what_mlflow_says(project: Path, train: Train) -> None:
    """Without MLflow's import the same versions, aliases and tags, and no deleted ones."""
    from mlflow.tracking import MlflowClient

    register_segmenter(project, load_params(), "wsss")
    train(project, 5)
    register_segmenter(project, load_params(), "wsss")
    register_segmenter(project, load_params(), "other")
    client = MlflowClient(tracking_uri(project), tracking_uri(project))
    client.set_registered_model_alias("wsss", "champion", "2")
    client.delete_model_version("wsss", "1")
    found = registered_versions(project / "mlflow.db")
    assert found == ModelStore(project)._served_versions()
    assert [(item.label, item.aliases) for item in found] == [
        ("other/1", ()),
        ("wsss/2", ("champion",)),
    ]
    assert registered_versions(project / "none.db") == []
    sqlite3.connect(project / "bare.db").execute("CREATE TABLE a (b)")
    assert registered_versions(project / "bare.db") == []
