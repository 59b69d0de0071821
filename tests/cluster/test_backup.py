"""The commands of docs/server.md that back up and restore, on real servers."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .mlflow_server import ROOT, MlflowServer
from .postgres_server import PASSWORD, USER, PostgresServer

pytestmark = pytest.mark.cluster

DATABASES = ("mlflow", "mlflow_auth", "optuna")
INSIDE = "docker compose -f docker/compose.yaml exec -T postgres "


def commands(heading: str) -> str:
    """The first block of commands below a heading, as they run without an engine."""
    text = (ROOT / "docs/server.md").read_text()
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    assert INSIDE in block[1]
    lines = [line for line in block[1].splitlines() if " up --detach" not in line]
    return "\n".join(lines).replace(INSIDE, "").replace("/backup/$(date +%F)", "$BACKUP")


def run(script: str, server: PostgresServer, folder: Path) -> None:
    environment = {
        "PATH": f"{server.bin}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": USER,
        "PGPASSWORD": PASSWORD,
        "BACKUP": str(folder),
        "folder": str(folder),
    }
    done = subprocess.run(
        ["bash", "-euc", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def contents(server: PostgresServer, database: str) -> dict[str, object]:
    """By table the number of its rows, and a hash of them."""
    found: dict[str, object] = {}
    with server.connect(database) as connection:
        asked = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        for (table,) in connection.execute(asked).fetchall():
            rows = "string_agg(t::text, chr(10) ORDER BY t::text)"
            asked = f'SELECT count(*), md5({rows}) FROM "{table}" t'
            found[table] = connection.execute(asked).fetchone()
    return found


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A second PostgreSQL, with nothing in it."""
    server = PostgresServer(Path(tempfile.mkdtemp(prefix="wsss-postgres-")), postgres.bin)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


def test_what_was_backed_up_is_restored_into_an_empty_server(
    mlflow_server: MlflowServer,
    empty: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = mlflow_server.postgres
    client = mlflow_server.client(monkeypatch)
    number = client.create_experiment(f"kept {tmp_path.name} {os.getpid()}")
    run_id = client.create_run(number).info.run_id
    for step in range(100):
        client.log_metric(run_id, "loss", step / 7, step=step)
    optuna = pytest.importorskip("optuna")
    url = server.url("optuna")
    study = optuna.create_study(storage=url, study_name=f"kept {os.getpid()}")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    before = {name: contents(server, name) for name in DATABASES}
    assert before["mlflow"]["metrics"][0] >= 100  # type: ignore[index]
    run(commands("Back up"), server, tmp_path / "backup")
    run(commands("Restore"), empty, tmp_path / "backup")
    assert {name: contents(empty, name) for name in DATABASES} == before
    again = optuna.load_study(storage=empty.url("optuna"), study_name=study.study_name)
    assert again.best_value == study.best_value
