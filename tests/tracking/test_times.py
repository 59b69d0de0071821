"""How long runs took, from MLflow's tables."""

import sqlite3
from pathlib import Path

from wsss.tracking.database import database_uri
from wsss.tracking.times import run_seconds


def test_runs_that_were_made_here_have_a_time(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE runs (run_uuid TEXT, start_time INTEGER, end_time INTEGER)")
        database.execute("CREATE TABLE tags (run_uuid TEXT, key TEXT, value TEXT)")
        rows = [("a", 1000, 3500), ("b", 1000, None), ("c", 1000, 2000)]
        database.executemany("INSERT INTO runs VALUES (?, ?, ?)", rows)
        database.execute("INSERT INTO tags VALUES ('c', 'restored', 'true')")
    runs = {"train": "a", "begun": "b", "restored": "c", "unknown": "d"}
    assert run_seconds(database_uri(file), runs) == {"train": 2.5}


def test_without_a_database_nothing_is_known(tmp_path: Path) -> None:
    assert run_seconds(database_uri(tmp_path / "mlflow.db"), {"train": "a"}) == {}
