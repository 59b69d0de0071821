"""The tests' PostgreSQL keeps what it is told, and asks who is there."""

import pytest

from .postgres_server import PostgresServer

pytestmark = pytest.mark.cluster


def test_databases_are_made_when_named_and_keep_what_they_hold(postgres: PostgresServer) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    for number in (1, 2):
        engine = sqlalchemy.create_engine(postgres.url("kept"))
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS t (x int)"))
            connection.execute(sqlalchemy.text(f"INSERT INTO t VALUES ({number})"))
        engine.dispose()
    with postgres.connect("kept") as connection:
        assert connection.execute("SELECT x FROM t ORDER BY x").fetchall() == [(1,), (2,)]


def test_a_wrong_password_is_refused(postgres: PostgresServer) -> None:
    psycopg = pytest.importorskip("psycopg")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://wsss:wrong@{postgres.address}/postgres")
