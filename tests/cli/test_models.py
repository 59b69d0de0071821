"""`wsss models` as a person types it; the commands themselves are tested in tests/serving."""

import subprocess
import sys
from pathlib import Path

import pytest

LIST = """\
import sys
from wsss.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted({"mlflow", "torch", "pandas", "scipy"} & sys.modules.keys()))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text("machine: {accelerator: cpu}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("arguments", [["list"], ["--help"]])
def test_listing_imports_nothing_heavy(project: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-c", LIST, "models", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    if arguments == ["list"]:
        assert "no model is registered in" in done.stdout
        assert not (project / "mlflow.db").exists()


def test_advice_that_can_be_followed(project: Path) -> None:
    command = [sys.executable, "-c", "from wsss.cli import main; main()", "models"]
    for arguments, said in {
        "register": "there is no segmenter in models/segmenter; `wsss run evaluate_segmenter`",
        "promote": "no model is registered in",
        "pull": "no model is registered in",
        "pull a/b/c": "'a/b/c' names no model; write NAME, NAME@ALIAS or NAME/VERSION",
    }.items():
        done = subprocess.run(
            [*command, *arguments.split()], cwd=project, capture_output=True, text=True
        )
        assert done.returncode == 1 and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
