"""The page on projects: its commands work as they stand, and its layouts those that are read."""

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.project import choice
from wsss.project.layouts import KNOWN

PAGE = (Path(__file__).parents[2] / "docs/project.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands_work_as_they_stand(
    layouts: dict[str, Callable[[Path], Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stages that make nothing, and weights that are not downloaded."""
    monkeypatch.setattr(choice, "why_no_weights", lambda: "")
    monkeypatch.setattr("wsss.pipeline.in_order.run_target", lambda *_: None)
    monkeypatch.setattr("wsss.runs.sync.sync_after_run", lambda *_: None)
    made = layouts["a table of tags"](tmp_path / "photos")
    made.write("../tags.csv", (tmp_path / "photos/tags.csv").read_text())
    home = tmp_path
    ran = []
    for block in BLOCKS:
        if "init mine --from" in block:  # beside the one before
            home = tmp_path / "again"
            home.mkdir()
            (home / "photos").symlink_to(tmp_path / "photos")
        monkeypatch.chdir(home / "mine" if (home / "mine").exists() else home)
        for line in block.splitlines():
            program, *words = shlex.split(line)
            if program == "cd":
                os.chdir(words[0])
            elif program == "wsss":
                if words[0] == "segment":
                    words.append("--dry-run")
                if words[0] == "init":
                    words += ["--no-git", "--no-dvc"]
                result = CliRunner().invoke(app, words)
                assert result.exit_code == 0, (line, result.output, result.exception)
                ran.append(" ".join(words[:2]))
            else:
                assert line == "dvc repro"
    assert {"init mine", "doctor upgrade", "run prepare_data"} <= set(ran)


def test_the_page_has_every_layout() -> None:
    for layout in KNOWN:
        assert f"| {layout} |" in PAGE
