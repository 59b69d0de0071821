"""Databases that MLflow cannot record in: found before any work, each with a way out that works."""

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.tracking import (
    check_tracking,
    experiment_name,
    known_runs,
    tracking_uri,
    usable,
)
from wsss.tracking.database import artifacts_uri, database_uri
from wsss.tracking.helper import HelperTracker
from wsss.tracking.usable import check_database, unusable

NewDatabase = Callable[[Path], Any]

STRANGE = "50% d?on#e é & it's"
"""What a folder may be called."""


def change(database: Path, command: str, *values: object) -> None:
    with closing(sqlite3.connect(database)) as opened:
        opened.execute(command, values)
        opened.commit()


def no_database(file: Path) -> None:
    file.write_text("no database at all, and long enough to look like one" * 9)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def another_program(file: Path) -> None:
    file.unlink()
    change(file, "CREATE TABLE trials (number INTEGER)")


def schema(revision: str) -> Callable[[Path], None]:
    return lambda file: change(file, "UPDATE alembic_version SET version_num = ?", revision)


def deleted(file: Path) -> None:
    change(
        file,
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, ?, 'deleted')",
        experiment_name("mine", "stages"),
    )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_database, ["file is not a database", "`mv ", "a new one is made"]),
        (folder, ["it is a folder", "`mv "]),
        (another_program, ["another program's database, with the tables trials", "`mv "]),
        (schema("75868b020152"), ["older MLflow", "`cp ", "mlflow db upgrade sqlite:///"]),
        (schema("ffffffffffff"), ["newer MLflow", "`pip install -U mlflow`", "`mv "]),
        (deleted, ["'mine stages' was deleted", "experiments restore -x 7`", "machine.experiment"]),
    ],
)
def test_a_database_that_cannot_be_used_stops_before_the_work_and_names_the_way_out(
    new_database: NewDatabase,
    start: Any,
    tmp_path: Path,
    damage: Callable[[Path], None],
    words: list[str],
) -> None:
    new_database(tmp_path)
    damage(tmp_path / "mlflow.db")
    began = time.monotonic()
    with pytest.raises(ConnectionError) as stopped:
        check_tracking(tmp_path, experiment_name("mine", "stages"))
    assert time.monotonic() - began < 2
    for word in [f"cannot record in {tmp_path}/mlflow.db", *words, "`wsss runs sync` then"]:
        assert word in str(stopped.value)
    assert str(stopped.value).count("\n") < 5
    if damage is not deleted:
        with pytest.raises(ConnectionError):
            HelperTracker(start())


def test_a_locked_database_is_waited_for_and_then_named(
    new_database: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_database(tmp_path)
    file = tmp_path / "mlflow.db"
    monkeypatch.setattr(usable, "PATIENCE", 0.3)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConnectionError, match=r"another process has locked it(?s:.*)fuser -v"):
            check_tracking(tmp_path, "mine stages")
        other.execute("ROLLBACK")
    check_tracking(tmp_path, "mine stages")


@pytest.mark.parametrize("place", ["", "mlflow.db"])
def test_a_place_that_may_not_be_written_is_named(
    new_database: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    new_database(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / place)  # root may all
    with pytest.raises(ConnectionError, match=r"is read-only\.\nLet it be written \(`chmod u\+w"):
        check_tracking(tmp_path, "mine stages")


@pytest.mark.parametrize(
    ("reason", "way"),
    [
        ("attempt to write a readonly database", "chmod u+w"),
        ("unable to open database file", "chmod u+w"),
        ("database disk image is malformed", "`mv "),
        ("database or disk is full", "Free some space"),
        ("Detected out-of-date database schema (found version x)", "mlflow db upgrade"),
        ("Can't locate revision identified by 'x'", "pip install -U mlflow"),
        ("something that nobody has seen yet", "MLFLOW_TRACKING_URI"),
    ],
)
def test_whatever_sqlite_and_mlflow_say_of_a_file_has_advice_for_a_file(
    tmp_path: Path, reason: str, way: str
) -> None:
    said = str(unusable(tmp_path / "mlflow.db", database_uri(tmp_path / "mlflow.db"), reason))
    assert way in said
    assert "Start that server" not in said


@pytest.mark.parametrize("made", ["not there", "empty", "without tables"])
def test_a_database_that_is_still_to_be_made_can_be_used(tmp_path: Path, made: str) -> None:
    file = tmp_path / "new" / "mlflow.db"
    if made != "not there":
        file.parent.mkdir()
        file.touch()
    if made == "without tables":
        change(file, "CREATE TABLE a (b)")
        change(file, "DROP TABLE a")
    check_database(file, database_uri(file), "mine stages")


def test_the_installed_mlflow_is_known_without_its_import(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    new_database(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as opened:
        ((found,),) = opened.execute("SELECT version_num FROM alembic_version").fetchall()
    known, last = usable._revisions()
    assert last == found and len(known) > 20
    code = (
        "import sys; from wsss.tracking import check_tracking; assert 'mlflow' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "command", [["compare", "mlflow:x"], ["study", "table"], ["runs", "open", "--print"]]
)
def test_commands_that_read_a_damaged_database_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    root = tmp_path / STRANGE
    shutil.copytree(Path(__file__).parents[2] / "recipes", root / "recipes")
    (root / "params.yaml").write_text("base: {rng_seed: 1}\n")
    no_database(root / "mlflow.db")
    monkeypatch.chdir(root)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    for words in ("not a database", f"mv {shlex.quote(str(root / 'mlflow.db'))} "):
        assert words in done.output, done.output
    assert "Traceback" not in done.output


def test_looking_for_runs_in_a_damaged_database_is_no_bug(tmp_path: Path) -> None:
    no_database(tmp_path / "mlflow.db")
    with pytest.raises(ConnectionError, match="not a database"):
        known_runs(database_uri(tmp_path / "mlflow.db"), "wsss stages", ["a"])


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["older", "newer", "deleted", "no database"])
def test_the_way_out_works_as_it_is_written_in_a_folder_of_any_name(
    new_database: NewDatabase, start: Any, tmp_path: Path, damage: str
) -> None:
    """Each command in backticks is run by a shell; then the stage records."""
    root = tmp_path / STRANGE
    client = new_database(root)
    file, experiment = root / "mlflow.db", start().experiment
    if damage == "older":
        file.unlink()
        older_database(file)
    elif damage == "newer":
        schema("ffffffffffff")(file)
    elif damage == "no database":
        no_database(file)
    else:
        client.delete_experiment(client.create_experiment(experiment, artifacts_uri(file)))
    with pytest.raises(ConnectionError) as stopped:
        check_tracking(root, experiment)
    commands = [
        command
        for command in re.findall(r"`([^`]+)`", str(stopped.value))
        if not command.startswith(("pip install", "wsss runs", "MLFLOW_TRACKING_URI`"))
    ]
    assert len(commands) == 1
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-c", commands[0]], check=True, env={**os.environ, "PATH": binaries}, cwd=tmp_path
    )
    picture = root / "panel.png"
    picture.write_bytes(b"png")
    tracker = HelperTracker(start("x", root))  # MLflow in this process has the old file open
    tracker.artifact(picture)
    tracker.end("FINISHED")
    assert known_runs(tracking_uri(root), experiment, ["same"]) == {"same": tracker.run_id}
    (kept,) = (root / "mlartifacts").rglob("panel.png")
    assert kept.read_bytes() == b"png"


def older_database(file: Path) -> None:
    """Make a database as an earlier MLflow did."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine_with_retry
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = create_sqlalchemy_engine_with_retry(database_uri(file))
    Base.metadata.create_all(engine)
    config = _get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "89d3d66ed43f")
    engine.dispose()
    shutil.copy(file, file.with_suffix(".as-it-was"))
