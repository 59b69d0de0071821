"""Runs in MLflow: flat, tagged, sent in batches; a lost server never stops a stage."""

import hashlib
import json
import logging
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking.multimedia import Image
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)
from PIL import UnidentifiedImageError

from wsss.artifacts import read_json
from wsss.checks import printable
from wsss.tracking._base import Table, now
from wsss.tracking.database import BESIDE, artifacts_uri, database_file, settle
from wsss.tracking.naming import without_repeats
from wsss.tracking.overview import write_overview
from wsss.tracking.provenance import RunStart
from wsss.tracking.server import without_login
from wsss.tracking.usable import unusable

__all__ = ["MlflowTracker", "find_runs", "is_refusal"]

_logger = logging.getLogger(__name__)
_RETRY_SECONDS = 60.0


class MlflowTracker:
    """Starts a run, or resumes the one that was interrupted, and sends what it is told.

    Values are buffered and sent in batches. An error while sending is logged once; what is
    buffered is kept and tried again at the next flush that is at least a minute later, and
    at the end. A file that is refused, and not just lost on the way, is left out with a warning.

    Args:
        start: the run.

    Raises:
        ConnectionError: MLflow cannot record; the text names where it was looked for.
    """

    def __init__(self, start: RunStart) -> None:
        self._start = start
        self._metrics: list[Metric] = []
        self._tags = dict(start.tags)
        self._artifacts: list[Path] = []
        self._tables: list[tuple[str, Table]] = []
        self._failed_at = -math.inf
        self._warned = False
        try:
            self._client, self._experiment = _connect(start.uri, start.experiment)
            resumed = _resume(self._client, start)
            self.run_id = resumed or _create(self._client, self._experiment, start)
            self._send()
        except Exception as error:  # an MLflow store may raise anything; no work is lost yet
            raise _unusable(start.uri, error) from error
        self._start.remember(self.run_id, "running")

    def metrics(
        self, values: Mapping[str, float], step: int = 0, moment: int | None = None
    ) -> None:
        """Remember values of one step. Infinite ones become NaN: databases cannot hold them."""
        moment = now() if moment is None else moment
        for key, value in values.items():
            number = float(value) if math.isfinite(value) else math.nan
            self._metrics.append(Metric(_key(key), number, moment, step))
        if len(self._metrics) >= MAX_METRICS_PER_BATCH:
            self.flush()

    def artifact(self, path: Path) -> None:
        """Store a file at the root of the run's artifacts, under its own name."""
        if path not in self._artifacts:
            self._artifacts.append(path)
        self.flush()

    def table(self, name: str, columns: Table) -> None:
        """Store a table with pictures."""
        self._tables.append((name, columns))
        self.flush()

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._tags.update(values)
        self.flush()

    def flush(self) -> None:
        """Send what is buffered, unless sending failed within the last minute."""
        if time.monotonic() - self._failed_at >= _RETRY_SECONDS:
            self._try_send()

    def end(self, status: str, error: str = "", moment: int | None = None) -> None:
        """Send all that is left and end the run as FINISHED, FAILED or KILLED."""
        if error:
            self._tags["error"] = error
        if self._try_send(status, moment):
            if status != "FINISHED":  # of which whoever waits for it knows best: see open_run
                self._start.remember(self.run_id, status.lower())
            return
        _logger.warning(
            "MLflow lacks %d values and %d files of run %s, which it shows as unfinished; "
            "`wsss runs sync` sends them once it is back",
            *(len(self._metrics), len(self._artifacts) + len(self._tables), self.run_id),
        )
        self._start.remember(self.run_id, "killed")  # with which whoever records the result goes on
        self.run_id = ""

    def _try_send(self, status: str | None = None, moment: int | None = None) -> bool:
        try:
            self._send()
            if status:
                self._client.set_terminated(self.run_id, status, moment)
                if not self._start.stage:
                    write_overview(self._client, self._experiment)
        except Exception as error:  # whatever it is, the stage's work goes on
            self._failed_at = time.monotonic()
            if not self._warned:
                _logger.warning("MLflow cannot be reached; will try again. %s", _reason(error))
                self._warned = True
            return False
        if self._warned:
            _logger.info("MLflow is back; nothing was lost")
        self._warned, self._failed_at = False, -math.inf
        return True

    def _send(self) -> None:
        while self._metrics or self._tags:
            metrics = self._metrics[: MAX_METRICS_PER_BATCH - MAX_PARAMS_TAGS_PER_BATCH]
            tags = dict(list(self._tags.items())[:MAX_PARAMS_TAGS_PER_BATCH])
            rows = [
                RunTag(_key(key), _cut(value, MAX_TAG_VAL_LENGTH)) for key, value in tags.items()
            ]
            self._client.log_batch(self.run_id, metrics=metrics, tags=rows)
            del self._metrics[: len(metrics)]
            for key in tags:
                del self._tags[key]
        while self._artifacts:
            path = self._artifacts[0]
            with _left_out_if_refused(path.name):
                if not path.is_file():
                    raise FileNotFoundError(f"{path} is gone")
                self._client.log_artifact(self.run_id, str(path))
            del self._artifacts[0]
        while self._tables:
            name, columns = self._tables[0]
            with _left_out_if_refused(name):
                cells = {
                    title: [Image(str(cell)) if isinstance(cell, Path) else cell for cell in column]
                    for title, column in columns.items()
                }
                self._client.log_table(self.run_id, cells, name)
            del self._tables[0]


@contextmanager
def _left_out_if_refused(file: str) -> Iterator[None]:
    """Send a file; where it is refused, the rest of its run goes on."""
    try:
        yield
    except Exception as error:
        if not is_refusal(error):
            raise
        _logger.warning("MLflow does not take %s, which its run lacks: %s", file, _reason(error))


def is_refusal(error: BaseException | None) -> bool:
    """Whether an error is a no, which would be said again, rather than a store that is away."""
    if isinstance(error, ImportError | PermissionError | FileNotFoundError | ValueError):
        return True
    if isinstance(error, UnidentifiedImageError):
        return True
    # a login may be renewed, and a server have more time later
    return 400 <= _status(error) < 500 and _status(error) not in (401, 408, 429)


def find_runs(uri: str, experiment: str, keys: Iterable[str]) -> dict[str, str]:
    """Find the finished runs of keys; the latest run's id by key.

    Raises:
        ConnectionError: MLflow cannot be asked.
    """
    found = {}
    try:
        client, experiment_id = _connect(uri, experiment)
        for key in keys:
            asked = f"tags.key = '{key}' and attributes.status = 'FINISHED'"
            for run in client.search_runs([experiment_id], asked, max_results=1):
                found[key] = str(run.info.run_id)
    except Exception as error:  # an MLflow store may raise anything
        raise _unusable(uri, error) from error
    return found


def _connect(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """Make a client and find the experiment's id; database and experiment are made if missing."""
    database = database_file(uri)
    if database is None:
        client = MlflowClient(uri)
        return client, _experiment_id(client, experiment, None)
    with settle(database):
        client = MlflowClient(uri)
        return client, _experiment_id(client, experiment, artifacts_uri(database))


def _experiment_id(client: MlflowClient, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        tags = {BESIDE: "true"} if artifacts else {}
        try:
            return str(client.create_experiment(name, artifacts, tags))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise ValueError(
            f"the experiment '{name}' was deleted; restore it "
            f"(mlflow experiments restore -x {found.experiment_id}) or set machine.experiment"
        )
    return str(found.experiment_id)


def _resume(client: MlflowClient, start: RunStart) -> str | None:
    """The id of the interrupted run that `start` continues, set running again.

    An interrupted run of other settings, inputs or code is marked KILLED.
    """
    if not start.record:
        return None
    try:
        last: dict[str, Any] = read_json(Path(start.record))
        if last["status"] not in ("running", "killed"):
            return None
        info = client.get_run(last["run_id"]).info
    except (OSError, ValueError, KeyError, TypeError):  # no record, or none of ours
        return None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if info.lifecycle_stage == "deleted":
        return None
    if last.get("key") != start.key:
        client.set_terminated(info.run_id, "KILLED")
        return None
    client.update_run(info.run_id, status="RUNNING")
    return str(info.run_id)


def _create(client: MlflowClient, experiment_id: str, start: RunStart) -> str:
    name = start.name
    if not start.stage:
        pattern = name.replace("'", "%")
        asked = f"attributes.run_name LIKE '{pattern}%'"
        others = client.search_runs([experiment_id], asked, max_results=1000)
        name = without_repeats(name, [str(run.info.run_name) for run in others])
    made = client.create_run(experiment_id, start.began or None, run_name=name)
    run_id = str(made.info.run_id)
    rows = [
        Param(_key(key), _cut(value, MAX_PARAM_VAL_LENGTH)) for key, value in start.settings.items()
    ]
    for first in range(0, len(rows), MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run_id, params=rows[first : first + MAX_PARAMS_TAGS_PER_BATCH])
    if start.datasets:
        client.log_inputs(
            run_id,
            [
                DatasetInput(
                    Dataset(item.name, item.digest[:36], "local", json.dumps({"uri": item.name})),
                    [InputTag("mlflow.data.context", item.context)],
                )
                for item in start.datasets
            ],
        )
    return run_id


def _key(name: str) -> str:
    """A name MLflow takes: letters, digits and _-. :/ only, no empty or dotted path parts.

    A name that has to be changed, or cut, ends with a hash of itself, so that no two become one.

    Example:
        >>> _key("val/iou/große Katze"), _key("val/iou/c++"), _key("val/iou/c--")
        ('val/iou/große Katze', 'val/iou/c__ 548517', 'val/iou/c--')
    """
    parts = re.sub(r"[^/\w.\- :]", "_", name).split("/")
    clean = "/".join(part for part in parts if part not in ("", ".", "..")).rstrip()
    if clean and clean == name and len(clean) <= MAX_ENTITY_KEY_LENGTH:
        return clean
    mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:6]
    return f"{clean[: MAX_ENTITY_KEY_LENGTH - len(mark) - 1].rstrip('/ ')} {mark}".lstrip()


def _cut(text: str, length: int) -> str:
    text = printable(text)
    return text if len(text) <= length else text[: length - 3] + "..."


def _reason(error: Exception) -> str:
    return _cut(without_login(str(error).strip().partition("\n")[0]) or repr(error), 300)


def _unusable(uri: str, error: Exception) -> ConnectionError:
    """Describe why MLflow cannot record at an address, and the way out."""
    if isinstance(error, ConnectionError) and error.errno is None:  # of the database; it says all
        return error
    if database := database_file(uri):
        return unusable(database, uri, _reason(error))
    return ConnectionError(
        f"MLflow cannot record at {without_login(uri)}: {_reason(error)}\n{_way_out(error)}"
    )


def _status(error: BaseException | None) -> int:
    """The HTTP status of a server's answer, 0 where none came.

    MLflow gives 500 to errors without an answer and to answers that are not its own, and has the
    status of those in their message. Digits elsewhere in it may be a port or an id.
    """
    if answered := re.search(r"failed with error code (\d{3})\b", str(error)):
        return int(answered[1])
    if status := getattr(getattr(error, "response", None), "status_code", 0):  # of requests
        return int(status)
    return getattr(error, "get_http_status_code", int)()


def _way_out(error: Exception) -> str:
    """What to do about a server's no."""
    text, status = str(error), _status(error)
    elsewhere = "set MLFLOW_TRACKING_URI to another one; without it, runs go to mlflow.db"
    if "host header" in text.lower():
        return (
            "The server does not go by the name in that address: use one that it knows, or start "
            "it with that name among --allowed-hosts."
        )
    if status == 401:
        return (
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user of that server "
            "(docs/server.md: users and rights)."
        )
    if status == 403:
        user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
        return (
            f"The user {user!r} may not write in that experiment. Let its owner or an admin give "
            "the right to edit it (docs/server.md: users and rights), or set machine.experiment "
            "to another name."
        )
    return f"Start that server, or {elsewhere} in the project."
