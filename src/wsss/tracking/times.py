"""How long recorded runs took."""

from collections.abc import Mapping
from contextlib import suppress

from wsss.tracking.database import database_file, read_rows

__all__ = ["run_seconds"]


def run_seconds(uri: str, runs: Mapping[str, str]) -> dict[str, float]:
    """Give the seconds that runs took, by the names that they are given with.

    A run of a result that was restored took no time that says anything, and is left out; so is one
    that MLflow does not know, or of which it cannot be asked.

    Args:
        uri: where MLflow is.
        runs: ids by name.
    """
    database = database_file(uri)
    if database is None:
        return _of_server(uri, runs)
    with suppress(ConnectionError):
        times, restored = read_rows(
            database,
            "SELECT run_uuid, start_time, end_time FROM runs",
            "SELECT run_uuid FROM tags WHERE key = 'restored'",
        )
        known = {run: (end - start) / 1000 for run, start, end in times if start and end}
        for (run,) in restored:
            known.pop(run, None)
        return {name: known[run] for name, run in runs.items() if run in known}
    return {}


def _of_server(uri: str, runs: Mapping[str, str]) -> dict[str, float]:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client, found = MlflowClient(uri), {}
    for name, run_id in runs.items():
        with suppress(MlflowException):
            run = client.get_run(run_id)
            if run.info.end_time and "restored" not in run.data.tags:
                found[name] = (run.info.end_time - run.info.start_time) / 1000
    return found
