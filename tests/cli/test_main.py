"""The `wsss` command where what it needs is not installed."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("missing", ["typer", "rich", "pydantic"])
def test_a_bare_install_says_what_is_missing_and_how_to_get_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['wsss', 'recipe', 'list']\n"
        "from wsss.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert missing in done.stderr
    assert "pip install '.[pipeline]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stop", "code", "words"),
    [
        ("KeyboardInterrupt", 130, "wsss study was stopped by Ctrl-C. What is done is kept"),
        ("StoppedError(15)", 143, "wsss study was stopped by SIGTERM. What is done"),
        ("StoppedError(10)", 99, "wsss study was stopped by SIGUSR1. What is done"),
        ("OSError(28, 'No space left on device', 'a.npz')", 1, "MiB free"),
        ("MemoryError('Unable to allocate 3 TiB')", 1, "The machine has too little memory"),
    ],
)
def test_a_mishap_within_a_command_is_one_message(stop: str, code: int, words: str) -> None:
    raising = (
        "import sys; from wsss.cli import app, study; sys.argv = ['wsss', 'study', 'table']\n"
        "from wsss.stopping import StoppedError\n"
        f"def read_plan(*_): raise {stop}\n"
        "study.read_plan = read_plan; app.app()"
    )
    done = subprocess.run([sys.executable, "-c", raising], capture_output=True, text=True)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") < 5


def test_only_the_whole_command_offers_completion() -> None:
    from typer.testing import CliRunner

    from wsss.cli.app import _LAZY, app

    runner = CliRunner()
    assert "--install-completion" in runner.invoke(app, ["--help"]).output
    for name in [*_LAZY, "recipe", "set", "schema", "convert-weights"]:
        shown = runner.invoke(app, [name, "--help"])
        assert shown.exit_code == 0 and "--help" in shown.output
        assert "completion" not in shown.output, name
