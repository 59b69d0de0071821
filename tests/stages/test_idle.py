"""Stages whose section names nothing: they cost next to nothing, and need nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from wsss.artifacts import Paths, read_json
from wsss.config.params import Params
from wsss.stages import find_stages, run_stage

IDLE = [stage for stage in find_stages() if stage.entries]


@pytest.mark.parametrize("name", [stage.name for stage in IDLE])
def test_a_stage_with_nothing_to_do_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    for path in find_stages()[name].reads:
        (tmp_path / path).mkdir(parents=True)
    code = (
        f"import sys; sys.argv = ['', '{name}']\n"
        "import runpy; runpy.run_module('wsss.stages', run_name='__main__')\n"
        "heavy = {'torch', 'timm', 'mlflow', 'scipy', 'skimage', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "nothing to do" in done.stderr
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("stage", IDLE, ids=lambda stage: stage.name)
def test_it_leaves_a_folder_marked_as_empty_and_an_empty_report(stage, tmp_path: Path) -> None:
    left = tmp_path / stage.makes[0] / "named before"
    left.mkdir(parents=True)
    run_stage(stage.name, Params(), Paths(tmp_path))
    # dvc repro warns of each folder without any file
    assert [path.name for path in (tmp_path / stage.makes[0]).iterdir()] == [".empty"]
    assert read_json(tmp_path / "reports" / f"{stage.name}.json") == {}
