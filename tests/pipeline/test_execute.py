"""Stages as processes of their own that are stopped, killed and started twice."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsss.artifacts import Paths
from wsss.config.params import parse_params
from wsss.pipeline import Job
from wsss.pipeline.execute import _tell_of_later
from wsss.stages import find_stages
from wsss.tracking import NullTracker

TOY = Path(__file__).with_name("toy.py")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text("base: {rng_seed: 1}\n")
    for name in ("DVC_STAGE", "WSSS_PARENT", "WSSS_TRACEBACK", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are killed at the end."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(project: Path, mishap: str, *before: str) -> subprocess.Popen[str]:
    """Run the toy stage, and wait until it is at work."""
    process = subprocess.Popen(
        [*before, sys.executable, str(TOY), mishap],
        cwd=project,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stdout.readline() == "made 0\n"
    return process


def run(project: Path, mishap: str) -> tuple[int, str]:
    """Run the toy stage to its end; exit code and what it says besides progress."""
    command = [sys.executable, str(TOY), mishap]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def resumed(project: Path) -> bool:
    return bool(json.loads((project / "reports/toy.json").read_text())["resumed"])


def files(project: Path) -> int:
    return len(list((project / "data/.toy.partial").glob("*.txt")))


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")],
)
def test_a_stage_that_is_stopped_says_what_is_kept_and_how_to_go_on(
    project: Path, started: list[subprocess.Popen[str]], number: int, code: int, name: str
) -> None:
    started.append(process := start(project, "slow"))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"toy was stopped by {name}\n" in said
    assert f"{files(project)} files in data/.toy.partial" in said
    assert "`wsss run toy` goes on from there" in said
    assert "Traceback" not in said and said.count("\n") < 6
    assert run(project, "none")[0] == 0
    assert resumed(project)


@pytest.mark.parametrize(
    ("mishap", "words"),
    [
        (
            "full disk",
            ["No space left on device: 'data/toy/4.txt'", "MiB free", "Free some space."],
        ),
        ("little memory", ["The machine has too little memory: Unable to allocate 3.2 TiB"]),
    ],
)
def test_a_mishap_from_outside_is_one_message_with_what_is_kept(
    project: Path, mishap: str, words: list[str]
) -> None:
    code, said = run(project, mishap)
    assert code == 1
    for word in [*words, "31 files in data/.toy.partial", "`wsss run toy` goes on from there"]:
        assert word in said
    assert "Traceback" not in said and said.count("\n") < 8


@pytest.mark.parametrize("how", ["late", "late and slow"])
def test_work_that_is_complete_is_kept_when_what_goes_with_it_fails(
    project: Path, started: list[subprocess.Popen[str]], how: str
) -> None:
    """A report that finds no room, or Ctrl-C while MLflow is slow: DVC deletes the finished out."""
    if how == "late":
        code, said = run(project, "late")
        assert code == 1 and "No space left on device: 'reports/toy.json'" in said
    else:
        started.append(process := start(project, how))
        assert process.stdout and any(line == "late\n" for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert "100 files in data/.toy.partial" in said and "goes on from there" in said
    assert not (project / "data/toy").exists()
    assert run(project, "none")[0] == 0
    assert json.loads((project / "reports/toy.json").read_text()) == {
        "resumed": True,
        "checkpoint": True,
    }
    assert [path.name for path in (project / "data").iterdir()] == ["toy"]
    assert len(list((project / "data/toy").iterdir())) == 100


def test_a_bug_keeps_its_trace(project: Path) -> None:
    code, said = run(project, "bug")
    assert code == 1 and "Traceback" in said and "shapes do not match" in said


def test_a_stage_that_runs_already_is_refused_before_any_work(
    project: Path, started: list[subprocess.Popen[str]]
) -> None:
    started.append(process := start(project, "waits"))
    code, said = run(project, "none")
    (project / "go").touch()
    assert code == 1
    assert f"toy: process {process.pid} on " in said and f"kill {process.pid}" in said
    assert "Traceback" not in said
    process.communicate(timeout=30)
    assert process.returncode == 0, "the first one goes on"
    assert not resumed(project)


@pytest.mark.parametrize("shell", [False, True])
def test_a_stage_ends_when_its_dvc_is_killed_and_the_next_one_goes_on(
    project: Path, started: list[subprocess.Popen[str]], shell: bool
) -> None:
    """DVC starts stages through a shell, which some shells replace by the stage."""
    command = f"{sys.executable} {TOY} slow" + "; exit $?" * shell
    parent = (
        f"import os, subprocess; os.environ['DVC_STAGE'] = 'toy'\n"
        f"subprocess.run(['/bin/sh', '-c', {command!r}])"
    )
    dvc = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=project, stdout=subprocess.PIPE, text=True
    )
    started.append(dvc)
    assert dvc.stdout and dvc.stdout.readline() == "made 0\n"
    stage = json.loads((project / "data/.toy.lock").read_text())["pid"]
    dvc.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _alive(stage):
        assert time.monotonic() < deadline, "the stage outlives its DVC"
        time.sleep(0.05)
    assert 0 < files(project) < 100
    assert run(project, "none")[0] == 0
    assert resumed(project)


def test_a_stage_that_was_started_by_hand_outlives_its_shell(
    project: Path, started: list[subprocess.Popen[str]]
) -> None:
    command = f"{sys.executable} {TOY} none; exit $?"
    shell = subprocess.Popen(
        ["/bin/sh", "-c", command], cwd=project, stdout=subprocess.PIPE, text=True
    )
    started.append(shell)
    assert shell.stdout and shell.stdout.readline() == "made 0\n"
    shell.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not (project / "reports/toy.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


SEVERAL = """
import sys
from pathlib import Path
import wsss.tracking
from wsss.pipeline import Pipeline, Stage, execute

together = execute.run_together

def edited_by_then(command, *rest):
    Path("params.yaml").write_text("base: {rng_seed: 2}")
    return together([sys.executable, *sys.argv], *rest)

def run(job):
    with job.staging() as staging:
        if job.is_first:
            (staging.path / "seed").write_text(str(job.params.base.rng_seed))
    job.report({})

execute.run_together = edited_by_then
wsss.tracking.has_mlflow = lambda: False
SETTINGS = ("base.rng_seed", "make_pseudo_masks")
toy = Stage("toy", run, settings=SETTINGS, makes=("data/toy",), devices=True)
execute.main(Pipeline([toy]), ["toy"])
"""


def test_processes_that_run_a_stage_together_have_the_settings_of_the_one_that_started_them(
    project: Path,
) -> None:
    """It may have read params.yaml hours ago, and records what was made as of its own."""
    (project / "params.yaml").write_text(
        "base: {rng_seed: 1}\nmachine: {devices: 2, accelerator: cpu}\n"
    )
    (project / "several.py").write_text(SEVERAL)
    subprocess.run([sys.executable, "several.py"], cwd=project, check=True)
    assert (project / "data/toy/seed").read_text() == "1"


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


@pytest.mark.parametrize(
    ("model_name", "told"), [("vgg11_bn", ["train_segmenter"]), ("resnet10t", [])]
)
def test_what_will_stop_a_later_stage_is_told_before_one_trains(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model_name: str, told: list[str]
) -> None:
    """VGG cannot be dilated, as the DeepLab of the default settings wants it."""
    values = {"train_classifier": {"backbone": {"model_name": model_name}}}
    params = parse_params(values, "test")
    pipeline = find_stages()
    job = Job(
        pipeline,
        pipeline.target("train_classifier", params),
        params,
        Paths(tmp_path),
        NullTracker(),
    )
    with caplog.at_level("WARNING", "wsss"):
        _tell_of_later(job)
    assert [line.split()[0] for line in caplog.messages] == told
    assert all("train_segmenter.model.arch to" in line for line in caplog.messages)
