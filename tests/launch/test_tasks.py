"""Commands as tasks: which run, which run again, and what is said of those that fail."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from wsss.launch import Task, TaskSettings, TasksFailedError, check_all_done, run_tasks
from wsss.launch.task import log_folder

LOCAL = TaskSettings(engine="local", at_once=4)


def shell(folder: Path, name: str, text: str, **environment: str) -> Task:
    return Task(name, ("sh", "-c", text), folder / f"{name}.done", environment)


def noted(folder: Path) -> Sequence[str]:
    file = folder / "noted"
    return file.read_text().split() if file.exists() else ()


@pytest.mark.parametrize("engine", ["inline", "local"])
def test_each_runs_once_and_what_is_done_does_not_run(tmp_path: Path, engine: str) -> None:
    settings = TaskSettings(engine=engine)
    tasks = [shell(tmp_path, name, f"echo {name} >> {tmp_path}/noted") for name in "abcd"]
    tasks[1].done.touch()
    assert run_tasks(tasks, settings, tmp_path, "letters") == []
    assert sorted(noted(tmp_path)) == ["a", "c", "d"]
    assert run_tasks(tasks, settings, tmp_path, "letters") == []
    assert len(noted(tmp_path)) == 3


def test_one_that_fails_once_runs_again(tmp_path: Path) -> None:
    text = f"test -e {tmp_path}/first || {{ touch {tmp_path}/first; kill -9 $$; }}"
    assert run_tasks([shell(tmp_path, "a", text)], LOCAL, tmp_path, "once") == []
    assert (tmp_path / "a.done").exists()


def test_what_fails_more_often_is_told_in_order_with_its_log(tmp_path: Path) -> None:
    tasks = [
        shell(tmp_path, "bad", f"echo x >> {tmp_path}/noted; echo its words; exit 3"),
        shell(tmp_path, "good", "sleep 0.1"),
        shell(tmp_path, "gone", "kill -TERM $$"),
    ]
    settings = LOCAL.model_copy(update={"restarts": 1})
    failed = run_tasks([*tasks, shell(tmp_path, "also good", "true")], settings, tmp_path, "some")
    assert [(item.name, item.reason) for item in failed] == [
        ("bad", "it ended with exit code 3"),
        ("gone", "it was killed by SIGTERM"),
    ]
    assert noted(tmp_path) == ["x", "x"]
    assert failed[0].log.read_text().split("\n")[:2] == ["its words", "its words"]
    with pytest.raises(TasksFailedError, match="some: 2 tasks failed") as error:
        check_all_done(failed, "some")
    assert "  | its words" in str(error.value) and "gone: it was killed" in str(error.value)
    check_all_done([], "some")


def test_where_all_fail_nothing_runs_for_ever(tmp_path: Path) -> None:
    """As many failures as tasks and nothing done: each has run once or twice, and that is all."""
    tasks = [shell(tmp_path, name, f"echo {name} >> {tmp_path}/noted; exit 1") for name in "abcdef"]
    settings = LOCAL.model_copy(update={"restarts": 50})
    assert len(run_tasks(tasks, settings, tmp_path, "all")) == 6
    assert 6 <= len(noted(tmp_path)) <= 12


def test_no_more_run_at_once_than_may(tmp_path: Path) -> None:
    text = (
        f"mkdir -p {tmp_path}/now; touch {tmp_path}/now/$$; ls {tmp_path}/now | wc -l >> "
        f"{tmp_path}/noted; sleep 0.1; rm {tmp_path}/now/$$"
    )
    tasks = [shell(tmp_path, name, text) for name in "abcdef"]
    settings = LOCAL.model_copy(update={"at_once": 2})
    assert run_tasks(tasks, settings, tmp_path, "two") == []
    assert max(map(int, noted(tmp_path))) == 2


def test_gpus_and_cores_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    text = f"echo $CUDA_VISIBLE_DEVICES-$WSSS_TASKS_HERE-$WSSS_ENGINE-$OWN >> {tmp_path}/noted"
    text += "; sleep 0.3"
    tasks = [shell(tmp_path, name, text, OWN=name) for name in "abcd"]
    assert run_tasks(tasks, LOCAL, tmp_path, "gpus") == []
    assert sorted(noted(tmp_path)) == sorted(
        ["3-4-inline-a", "5-4-inline-b", "3-4-inline-c", "5-4-inline-d"]
    )


def test_an_error_here_stops_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsss.launch.waiting import Waiting

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiting, "show", stopped)
    task = Task("long", (sys.executable, "-c", "import time; time.sleep(60)"), tmp_path / "done")
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_tasks([task], LOCAL, tmp_path, "long")
    assert time.monotonic() - started < 30


def test_how_far_tasks_are_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wsss.progress.EVERY", 0.0)
    note = '{"what": "CAMs", "done": 3, "total": 10}'
    text = f"echo '{note}' > $WSSS_PROGRESS; sleep 0.5"
    with caplog.at_level("INFO", "wsss.launch.waiting"):
        run_tasks([shell(tmp_path, "a", text)], LOCAL, tmp_path, "maps")
    lines = [record.getMessage() for record in caplog.records]
    assert "maps: 3 of 10 done  CAMs, 1 running" in lines


def test_a_scratch_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    scratch = tmp_path / "not" / "there yet"
    settings = LOCAL.model_copy(update={"scratch": str(scratch)})
    task = shell(tmp_path, "a", "true")
    with pytest.raises(ValueError, match=rf"which is no folder; make it .mkdir -p '{scratch}'"):
        run_tasks([task], settings, tmp_path, "letters")
    assert not scratch.parent.exists() and not task.done.exists()
    scratch.mkdir(parents=True)
    assert run_tasks([task], settings, tmp_path, "letters") == []
    assert (log_folder(settings, tmp_path, "letters") / "a.log").exists()


def test_no_two_projects_share_a_folder_below_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LOCAL.model_copy(update={"scratch": str(tmp_path / "scratch")})
    roots = [tmp_path / user / "cats" for user in "ab"]
    for root in roots:
        root.mkdir(parents=True)
    (tmp_path / "link").symlink_to(roots[0])
    first, second = (log_folder(settings, root, "study") for root in roots)
    assert first != second
    assert first.is_relative_to(tmp_path / "scratch") and first.parent.name.startswith("cats-")
    assert log_folder(settings, tmp_path / "link", "study") == first
    monkeypatch.chdir(roots[0])
    assert log_folder(settings, Path(), "study") == first
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    others = log_folder(settings, roots[0], "study")
    assert others.relative_to(tmp_path / "scratch").parts[0] != first.parts[-3]
