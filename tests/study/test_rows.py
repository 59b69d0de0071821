"""The rows of a study as tasks: which commands they are, and what each of them runs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from wsss.checks import ConfigError
from wsss.launch import Failure, Task, TaskSettings, TasksFailedError, command_site
from wsss.study import __main__ as row_task
from wsss.study import rows
from wsss.study.plan import Plan

PLAN = Plan.model_validate(
    {
        "title": "t",
        "sizes": {"small": {}},
        "columns": {"m": {"metric": "evaluate_cams/val/mean_iou"}},
        "compared": "m",
        "baseline": "a",
        "repeated": ["b"],
        "rows": {"a": {"recipe": "synthetic_cam"}, "b": {"recipe": "synthetic_cam"}},
    }
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The tasks that would run; those named by a row that is bad fail."""
    found: list[Task] = []

    def note(tasks: Sequence[Task], *_: Any) -> list[Failure]:
        found.extend(tasks)
        return [Failure(task.name, "why", Path("log")) for task in tasks if "bad" in task.command]

    monkeypatch.setattr(rows, "run_tasks", note)
    monkeypatch.setattr(rows, "check_tracking", lambda *_: None)
    params = type("P", (), {"machine": type("M", (), {"experiment": "e"})})
    monkeypatch.setattr(rows, "row_params", lambda *_: params)
    return found


def test_each_row_and_seed_is_a_task(tmp_path: Path, told: list[Task]) -> None:
    settings = TaskSettings(engine="local")
    rows.run_rows(tmp_path, "s", PLAN, "small", settings, seeds=2, ignore_code=True)
    base = (sys.executable, "-m", "wsss.study", "s", "small")
    assert [task.command for task in told] == [
        (*base, "a", "0", "--ignore-code"),
        (*base, "b", "0", "--ignore-code"),
        (*base, "b", "1", "--ignore-code"),
    ]
    assert len({task.done for task in told}) == len({task.file for task in told}) == 3


def test_rows_that_fail_are_named(tmp_path: Path, told: list[Task]) -> None:
    bad = PLAN.model_copy(update={"rows": PLAN.rows | {"bad": PLAN.rows["a"]}})
    with pytest.raises(TasksFailedError, match="the study s: 1 task failed"):
        rows.run_rows(tmp_path, "s", bad, "small", TaskSettings(engine="local"))


def test_a_task_runs_its_row_and_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(row_task, "read_plan", lambda root, name: PLAN)
    monkeypatch.setattr(row_task, "stop_on_signals", lambda: None)
    monkeypatch.setattr(
        row_task, "run_study", lambda *given, **named: asked.update(given=given, **named)
    )
    row_task.main(["s", "small", "b", "1", "--ignore-code"])
    assert asked["given"][1:] == ("s", PLAN, "small")
    assert (asked["rows"], asked["seed"], asked["seeds"]) == (("b",), 1, 2)
    assert asked["ignore_code"]


def test_what_the_site_says_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSSS_ENGINE", raising=False)
    assert command_site(tmp_path, "study").engine == "inline"
    (tmp_path / "config.local.yaml").write_text("engine: slurm\npartition: gpu\n")
    assert command_site(tmp_path, "study").engine == "inline", "its stages would be, not its rows"
    own = command_site(tmp_path, "study", "slurm", 3)
    assert (own.engine, own.partition, own.at_once) == ("slurm", "gpu", 3)
    text = "engine: slurm\nstages: {study: {engine: local}}\n"
    (tmp_path / "config.local.yaml").write_text(text)
    assert command_site(tmp_path, "study").engine == "local"
    with pytest.raises(ConfigError, match="engine must be"):
        command_site(tmp_path, "study", "pbs")
