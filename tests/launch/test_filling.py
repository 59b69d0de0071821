"""A stage in tasks of this machine: nothing is lost or doubled, whoever is killed."""

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from .toy_project import (
    WHOLE,
    Start,
    by_one_process,
    files,
    finish,
    made,
    participants,
    site,
    wait_for,
)


@pytest.mark.parametrize("tasks", [1, 5])
def test_tasks_make_what_one_process_makes(project: Path, start: Start, tasks: int) -> None:
    assert by_one_process(project, start) == WHOLE
    site(project, tasks=tasks, at_once=4)
    finish(start())
    assert files(project / "data/toy") | files(project / "reports") == WHOLE
    wrote = Counter(line.split(maxsplit=2)[2] for line in made(project))
    assert sum(wrote.values()) == 13 and "driver" not in wrote
    assert len(wrote) == min(tasks, 13)
    assert max(wrote.values()) - min(wrote.values()) <= 1
    assert not list((project / "data").glob(".*"))


def test_entries_are_done_by_tasks_one_after_the_other(project: Path, start: Start) -> None:
    alone = by_one_process(project, start, "toys")
    finish(start("toys"))
    assert files(project / "data/toys") | files(project / "reports") == alone
    assert not [line for line in made(project) if line.endswith("driver")]
    finish(start("toys"))
    assert len(made(project)) == 26


def test_a_task_that_is_killed_is_started_again_and_goes_on(project: Path, start: Start) -> None:
    said = finish(start(TOY_KILLED="image07"))
    assert "it was killed by SIGKILL" in said and "started again (1 of 2)" in said
    assert files(project / "data/toy") | files(project / "reports") == WHOLE
    assert sorted(line.split()[1] for line in made(project)) == [
        f"image{at:02}" for at in range(13)
    ]


def test_a_task_that_fails_each_time_is_named_with_its_last_words(
    project: Path, start: Start
) -> None:
    said = finish(start(TOY_FAILS="image07"), 1)
    assert "toy: 1 task failed" in said
    assert "part 2 of 3: it ended with exit code 1; see" in said
    assert "the image image07 is no image" in said
    assert "it goes on with what is done" in said
    assert "Traceback" not in said
    done = {line.split()[1] for line in made(project)}
    finish(start())  # whatever it was is mended
    assert len(made(project)) == 13 and done < {line.split()[1] for line in made(project)}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_tasks_end_with_the_process_that_started_them(
    project: Path, start: Start, number: signal.Signals
) -> None:
    process = start(TOY_SLEEP="0.3")
    wait_for(lambda: (project / "made.txt").exists() and len(made(project)) > 2)
    process.send_signal(number)
    process.wait(30)
    wait_for(lambda: not participants(project))
    before = made(project)
    assert 0 < len(before) < 13
    finish(start())
    assert files(project / "data/toy") | files(project / "reports") == WHOLE
    assert len(made(project)) == 13 and made(project)[: len(before)] == before


def test_tasks_that_are_done_are_not_started_again(project: Path, start: Start) -> None:
    finish(start(TOY_FAILS="image07"), 1)
    marks = {file.name for file in (project / "data/.toy.partial").glob(".work.*.done")}
    assert marks == {".work.part-1-of-3.done", ".work.part-3-of-3.done"}
    shim = project / "python"
    shim.write_text(shim.read_text().replace("exec", "echo >> started.txt; exec"))
    finish(start())
    assert len((project / "started.txt").read_text().splitlines()) == 1


def test_other_settings_begin_anew(project: Path, start: Start) -> None:
    finish(start(TOY_FAILS="image07"), 1)
    (project / "params.yaml").write_text("base: {rng_seed: 2}\n")
    finish(start())
    texts = {file.read_text().split()[1] for file in (project / "data/toy").glob("*.txt")}
    assert texts == {"2"}


def test_tasks_keep_to_the_settings_they_were_started_for(project: Path, start: Start) -> None:
    """Params.yaml is edited while they wait; what is made then is what was wanted before."""
    shim = project / "python"
    shim.write_text(
        shim.read_text().replace("exec", "echo 'base: {rng_seed: 9}' > params.yaml; exec")
    )
    finish(start())
    texts = {file.read_text().split()[1] for file in (project / "data/toy").glob("*.txt")}
    assert texts == {"1"}


def test_a_second_process_is_refused(project: Path, start: Start) -> None:
    process = start(TOY_SLEEP="2")
    wait_for(lambda: (project / "made.txt").exists())
    assert "is at work on it since" in finish(start(), 1)
    finish(process)
    assert len(made(project)) == 13


def test_a_task_of_other_code_does_nothing(project: Path, start: Start) -> None:
    finish(start(TOY_FAILS="image07"), 1)
    part = project / "data/.toy.partial/.work.part.json"
    values = json.loads(part.read_text())
    part.write_text(json.dumps(values | {"checked": "other"}))
    before = made(project)
    environment = os.environ | {"WSSS_PART": str(part), "WSSS_SHARD": "1/3"}
    done = subprocess.run(
        [str(project / "python"), "-m", "wsss.stages", "toy"],
        cwd=project, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "finds other code than the process" in done.stderr
    assert made(project) == before
