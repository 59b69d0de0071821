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
