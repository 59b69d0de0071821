"""The quick look at the end of every `dvc repro`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsss.runs.seen import last_look, look, remember

LOCK = """\
schema: '2.0'
stages:
  prepare_data:
    cmd: a
  record_runs:
    cmd: b
    deps:
    - path: reports
      md5: {0}
  train:
    cmd: c
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "params.yaml").write_text("a: 1")
    (tmp_path / "dvc.lock").write_text(LOCK.format(1))
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "reports/evaluate_cams").mkdir(parents=True)
    (tmp_path / "reports/evaluate_cams.json").write_text("{}")
    (tmp_path / "reports/evaluate_cams/panel.png").touch()
    return tmp_path


def test_what_decides_about_runs_is_seen_and_nothing_else(root: Path) -> None:
    assert last_look(root) == {}
    remember(root, experiment_run="a")
    assert last_look(root) == {"look": look(root), "experiment_run": "a"}
    (root / "dvc.lock").write_text(LOCK.format(2))  # of the look itself
    (root / "reports/evaluate_cams.run.json").write_text("{}")
    assert last_look(root)["look"] == look(root)
    seen = {look(root)}
    for change in (
        lambda: (root / "params.yaml").write_text("a: 2"),
        lambda: (root / "dvc.lock").write_text(LOCK.format(2).replace("cmd: c", "cmd: d")),
        lambda: (root / "reports/evaluate_cams.json").write_text("{1}"),
        lambda: (root / "reports/evaluate_cams/panel.png").unlink(),
        lambda: (root / "mlflow.db").unlink(),
    ):
        change()
        assert look(root) not in seen
        seen.add(look(root))


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_note_that_is_not_ours_is_none(root: Path, text: str) -> None:
    (root / "reports/record_runs.run.json").write_text(text)
    assert last_look(root) == {}


def test_a_look_that_finds_nothing_new_costs_next_to_nothing(root: Path) -> None:
    remember(root)
    code = (
        "import runpy, sys; runpy.run_module('wsss.runs', run_name='__main__')\n"
        "print([name for name in ('numpy', 'pydantic', 'yaml', 'mlflow') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
