"""docs/doctor.md: its commands run, its Python runs, and its table has every finding."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.doctor.hardware import Gpus, Torch, check_gpus, check_shared_memory
from wsss.doctor.packages import check_packages, check_python
from wsss.doctor.tracking import check_tracking
from wsss.doctor.versions import read_requirements
from wsss.stages.findings.warned import KINDS
from wsss.tracking.server import Answer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture
def project(run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run in which a class is gone from the pseudo masks."""
    (run.root / "params.yaml").write_text(yaml.safe_dump(run.tree))
    run.write_masks(lambda _, mask: mask * (mask != 1))
    monkeypatch.chdir(run.root)
    return run


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("wsss")])
def test_the_commands_run(project: Any, command: str) -> None:
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code in (0, 1) and not isinstance(result.exception, ValueError)
    assert result.output
    if "run" in command:
        assert "fault" not in result.output and result.exit_code == 0
    if "--out" in command:
        assert (project.root / command.split()[-1] / "index.html").is_file()


def test_the_command_without_wsss_is_a_module() -> None:
    (command,) = [line for line in COMMANDS if not line.startswith("wsss")]
    assert command == "python -m wsss.doctor"  # which test_machine runs without any package


def test_the_python_runs(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    project.write_classifier({"sheep": 0.45})
    (text,) = blocks("python")
    exec(text, {})
    assert "warning weak_classes [('raise', 'train_classifier.epochs')" in capsys.readouterr().out


def test_every_finding_is_in_the_table() -> None:
    """With whether it needs masks; no name is there that the code does not have."""
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[1])]
    code = {kind.name: kind.needs_truth for kind in KINDS} | {"warned": False}
    for file in sorted((ROOT / "src/wsss").glob("doctor/*.py")) + sorted(
        (ROOT / "src/wsss/stages/findings").glob("*.py")
    ):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "Finding"
                and isinstance(node.args[0], ast.Constant)
            ):
                given = {item.arg: ast.unparse(item.value) for item in node.keywords}
                code[str(node.args[0].value)] = given.get("needs_truth") == "True"
        for name in re.findall(r'^        "(\w+)": \("(?:lower|raise)', text, re.MULTILINE):
            code[name] = False
    assert sorted(named) == sorted(code)
    needs = {
        name: row[4].strip() == "yes" for row in rows for name in re.findall(r"`(\w+)`", row[1])
    }
    assert needs == code


def test_the_lines_that_are_shown_are_those_of_such_a_machine() -> None:
    torch = next(item for item in read_requirements(ROOT)[1]["pipeline"] if item.name == "torch")
    checks = [
        check_python("3.12.3", read_requirements(ROOT)[0]),
        *check_packages("pipeline", [torch], {"torch": "2.13.0+cpu"}, needed=True),
        check_gpus(Gpus(("NVIDIA L4",), "580.65.06"), Torch("2.13.0+cpu")),
        check_shared_memory(64 * 2**20, 8, 16, 224),
        check_tracking(
            "http://mlflow:5000",
            installed=True,
            look_at_database=lambda: True,
            ask=lambda _: Answer(0, "Connection refused"),
        ),
    ]
    shown = "".join(f"{check.level:<8} {check.line()}\n" for check in checks)
    assert shown == blocks("text")[0]


def test_the_finding_that_is_shown_is_said_so(project: Any) -> None:
    """But for its numbers, and the names of chain and images."""

    def plain(text: str) -> str:
        text = re.sub(r"\d+", "N", text.replace("chains.none", "chains.crf"))
        return re.sub(r"seen in .*", "seen in", text)

    project.write_masks(lambda item, mask: mask * ~((mask == 1) & (3 in item.class_ids)))
    result = CliRunner().invoke(app, ["doctor", "run", "make_pseudo_masks"])
    lines = result.output.splitlines(keepends=True)
    assert plain("".join(lines[:3])) == plain(blocks("text")[1])
