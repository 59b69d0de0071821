"""A project with the toy stage: images that are names, and a Python that runs the toy."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from wsss.artifacts import Manifest, Paths, Sample

TOY = Path(__file__).with_name("toy.py")
Start = Callable[..., "subprocess.Popen[str]"]
IMAGES = [f"image{at:02}" for at in range(13)]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's root; its site has 3 tasks."""
    for name in ("DVC_STAGE", "WSSS_PARENT", "WSSS_ENGINE", "WSSS_PART", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "params.yaml").write_text(
        "base: {rng_seed: 1}\nfurther_cams: {one: {scales: [1.0]}, two: {scales: [0.5]}}\n"
    )
    samples = tuple(Sample(name, f"{name}.png", (4, 4), (1,)) for name in IMAGES)
    splits = {"train": samples[:8], "selection": samples[8:10], "val": samples[10:]}
    Manifest(("cat",), splits).write(Paths(tmp_path).splits)
    shim = tmp_path / "python"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {TOY} "$@"\n')
    shim.chmod(shim.stat().st_mode | stat.S_IEXEC)
    site = {"engine": "local", "tasks": 3, "python": str(shim), "poll": 0.2}
    (tmp_path / "config.local.yaml").write_text(yaml.safe_dump(site))
    return tmp_path


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    """Starts the stage: its name, and variables."""
    started: list[subprocess.Popen[str]] = []

    def begin(stage: str = "toy", **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(TOY), stage],
            cwd=project,
            env=os.environ | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """Wait until it ends with a code; what it said, in one line."""
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    return " ".join(said.split())  # lines are as wide as the terminal


def files(folder: Path) -> dict[str, bytes]:
    """Contents of all files by name, but what says under which settings an entry was made."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def made(project: Path) -> list[str]:
    return (project / "made.txt").read_text().splitlines()


def site(project: Path, **values: object) -> None:
    """Change what the project's site says."""
    file = project / "config.local.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | values))


WHOLE = {f"{name}.txt": f"{name} 1\n".encode() for name in IMAGES}
WHOLE["toy.json"] = b'{\n  "images": 13\n}\n'
"""What the stage toy makes and reports, whoever does it."""


def by_one_process(project: Path, start: Start, stage: str = "toy") -> dict[str, bytes]:
    """What one process makes; deleted then."""
    finish(start(stage, WSSS_ENGINE="inline"))
    assert {line.split(maxsplit=2)[2] for line in made(project)} == {"driver"}
    (project / "made.txt").unlink()
    outs = files(project / f"data/{stage}") | files(project / "reports")
    subprocess.run(["rm", "-r", "data/" + stage, "reports"], cwd=project, check=True)
    return outs


def participants(project: Path) -> list[int]:
    """The processes of the project's tasks."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").resolve() == project and b"WSSS_PART=" in (
                place / "environ"
            ).read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def wait_for(happens: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
