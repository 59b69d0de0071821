"""`wsss doctor` as a whole: in a project, without one, and without any other package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.config.params import parse_params
from wsss.doctor import seen
from wsss.doctor.hardware import GIB, check_memory
from wsss.doctor.machine import check_machine
from wsss.pipeline import code
from wsss.pipeline.execute import check_code
from wsss.project.start import start_project
from wsss.stages import find_stages

ROOT = Path(__file__).parents[2]


def by_name(root: Path, **environ: str) -> dict[str, str]:
    found = check_machine(root, {"PATH": "/nowhere", "HOME": str(root), **environ})
    return {check.about: check.level for check in found}


def test_a_folder_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert all(line.split()[0] in ("ok", "warning") for line in lines)
    assert not any("params.yaml" in line or "dvc" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_project_with_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("machine: {num_worker: 0}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "config.local.yaml").write_text("engine: slurmy\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1
    found = {check["about"]: check for check in json.loads(result.output)}
    faults = {name for name, check in found.items() if check["level"] == "fault"}
    assert faults == {"params.yaml", "wsss.lock", "dvc.yaml", "mlflow"}
    assert "did you mean 'num_workers'?" in found["params.yaml"]["text"]
    (tmp_path / "params.yaml").write_text("machine: {num_workers: 0}\n")
    levels = by_name(tmp_path)
    assert levels["params.yaml"] == "ok" and levels["config.local.yaml"] == "fault"
    assert levels["git"] == levels["dvc"] == "warning"


def test_a_project_whose_stages_would_refuse_to_run_is_not_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over wsss.lock: of other code, damaged, or lost."""
    installed, root = tmp_path / "installed/src/wsss", tmp_path / "mine"
    shutil.copytree(ROOT / "src/wsss", installed, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "_PACKAGE", installed)  # which nobody edits meanwhile
    start_project(root, git=False, dvc=False)
    monkeypatch.chdir(root)
    assert by_name(root)["wsss.lock"] == "ok"
    lock = root / "wsss.lock"
    for spoil in (
        lambda held: re.sub(r"(?m)^(  segment): .*$", r"\1: other", held),
        lambda held: held.partition("files:")[0],
    ):
        lock.write_text(spoil(lock.read_text()))
        with pytest.raises(ValueError, match="wsss doctor upgrade"):
            check_code(find_stages().target("predict_masks", parse_params({})), root)
        assert by_name(root)["wsss.lock"] == "fault"
        (check,) = (item for item in check_machine(root) if item.about == "wsss.lock")
        assert CliRunner().invoke(app, check.fix.split()[1:]).exit_code == 0
        assert by_name(root)["wsss.lock"] == "ok"
    lock.unlink()
    assert by_name(root)["wsss.lock"] == "fault"


def test_this_checkout_is_in_order() -> None:
    """Its dvc.yaml and params.yaml are; what else is said depends on the machine."""
    levels = by_name(ROOT)
    assert levels["params.yaml"] == levels["dvc.yaml"] == levels["wsss"] == "ok"
    assert levels["python"] == levels["compiled module"] == "ok"


WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "numpy", "pydantic", "yaml", "typer", "mlflow",
                                      "dvc", "PIL", "rich", "filelock"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
sys.argv = ["doctor"]
import runpy
runpy.run_module("wsss.doctor", run_name="__main__")
"""


@pytest.mark.parametrize("project", [True, False])
def test_it_runs_without_any_other_package(tmp_path: Path, project: bool) -> None:
    if project:
        (tmp_path / "params.yaml").write_text("{}\n")
        (tmp_path / "dvc.yaml").write_text("{}\n")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("fault    compiled module: NumPy is missing") for line in lines)
    said = [line for line in lines if "without pydantic" in line or "without yaml" in line]
    assert len(said) == 2 * project
    assert not done.stderr


@pytest.mark.parametrize(
    ("asked", "user", "command"),
    [
        ("my data", "me", "chmod u+rwx '{}'"),
        ("my data/cams", "me", "chmod u+rwx '{}'"),
        ("my data", "another", "sudo chown -R $(id -u) '{}'"),
        ("my data/cams", "another", "sudo install -d -o $(id -u) '{}/cams'"),
    ],
)
def test_a_folder_that_cannot_be_written_is_opened_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, user: str, command: str
) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    assert seen.disk_of(tmp_path / asked, "data").opened_by == ""
    monkeypatch.setattr(
        os, "access", lambda path, mode: path.exists() and (mode == os.F_OK or path != folder)
    )
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + (user == "another"))
    assert seen.disk_of(tmp_path / asked, "data").opened_by == command.format(folder)


def test_what_a_system_says_is_read(tmp_path: Path) -> None:
    gpu = tmp_path / "nvidia/gpus/0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t NVIDIA H100 80GB\nIRQ:   11\n")
    (tmp_path / "nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 2023\n"
    )
    found = seen.find_gpus(tmp_path / "nvidia")
    assert (found.names, found.driver) == (("NVIDIA H100 80GB",), "535.104.05")
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert seen.available_memory(tmp_path / "meminfo") == 2 * 2**20
    assert seen.available_memory(tmp_path / "none") is None


def test_what_a_container_or_a_job_may_have_is_read(tmp_path: Path) -> None:
    def limits() -> tuple[int | None, int | None, float | None]:
        groups = seen.own_groups(tmp_path, tmp_path / "own")
        return *seen.memory_left(groups), seen.cpu_quota(groups)

    assert limits() == (None, None, None)
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert limits() == (600, 1000, 1.5)
    job = tmp_path / "slurm/job_7"
    job.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/slurm/job_7\n")
    (job / "memory.max").write_text("100\n")
    (job / "cpu.max").write_text("max 100000\n")
    assert limits() == (100, 100, 1.5)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert limits() == (100, 100, None)


def test_limits_of_the_older_kind_are_read(tmp_path: Path) -> None:
    for name, text in {
        "memory/memory.limit_in_bytes": "1000",
        "memory/memory.usage_in_bytes": "100",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    groups = seen.own_groups(tmp_path, tmp_path / "none")
    assert (seen.memory_left(groups), seen.cpu_quota(groups)) == ((900, 1000), None)


@pytest.mark.parametrize(
    ("limit", "used", "stat", "kept"),
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ],
)
def test_files_that_were_read_take_no_memory(
    tmp_path: Path, limit: str, used: str, stat: str, kept: str
) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text(f"{8 * GIB}\n")
    (tmp_path / used).write_text(f"{8 * GIB}\n")
    (tmp_path / stat).write_text(f"anon 1\n{kept} {7 * GIB}\nactive_file 2\n")
    left, whole = seen.memory_left([tmp_path])
    assert (left, whole) == (7 * GIB, 8 * GIB)
    check = check_memory(64 * GIB, left, whole)
    assert check.level == "ok"
    assert check.text == "7.0 GiB free of the 8.0 that this container or job may have"


def test_torch_is_read_and_not_imported() -> None:
    code = (
        "import sys; from wsss.doctor.seen import find_torch; found = find_torch(ask=False); "
        "assert 'torch' not in sys.modules; print(found.version, found.cuda)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch = pytest.importorskip("torch")
    assert done.stdout.split() == [torch.__version__, *filter(None, [torch.version.cuda])]
