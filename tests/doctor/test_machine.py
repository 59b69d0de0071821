"""`wsss doctor` as a whole: in a project, without one, and without any other package."""

import json
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.doctor import seen
from wsss.doctor.machine import check_machine
from wsss.doctor.tracking import Answer, ask_server, within

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
    assert faults == {"params.yaml", "dvc.yaml", "mlflow"}
    assert "did you mean 'num_workers'?" in found["params.yaml"]["text"]
    (tmp_path / "params.yaml").write_text("machine: {num_workers: 0}\n")
    levels = by_name(tmp_path)
    assert levels["params.yaml"] == "ok" and levels["config.local.yaml"] == "fault"
    assert levels["git"] == levels["dvc"] == "warning"


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


@pytest.fixture
def server() -> "list[object]":
    """A server that answers with a status; its last request."""
    held: list[object] = [200, None, None]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            held[1] = self
            self.send_response(int(str(held[0])))
            self.end_headers()
            known = self.headers.get("Authorization") == "Basic bWU6YSBi"  # me:a b
            body = b'{"experiment": {"experiment_id": "3"}}' if held[0] == 200 else b"Invalid Host"
            self.wfile.write(body if known or held[0] != 200 else b"no login")

        def log_message(self, *_: object) -> None:
            pass

    own = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=own.serve_forever, daemon=True).start()
    held[2] = f"127.0.0.1:{own.server_port}"
    yield held
    own.shutdown()


def test_a_server_is_asked_with_the_login_that_is_set(server: "list[object]") -> None:
    login = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "a b"}
    assert ask_server(f"http://{server[2]}/", "wsss", login) == Answer(200)
    assert ask_server(f"http://me:a%20b@{server[2]}", "wsss", {}) == Answer(200)
    assert ask_server(f"http://{server[2]}", "wsss", {}).status == 500
    server[0] = 403
    assert ask_server(f"http://{server[2]}", "my runs", {}) == Answer(403, "Invalid Host")


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        found = ask_server(f"http://127.0.0.1:{deaf.getsockname()[1]}", "wsss", {}, patience=0.2)
    assert found.status == 0 and "timed out" in found.text
    assert ask_server("http://127.0.0.1:1", "wsss", {}).text == "Connection refused"


def test_a_call_that_takes_long_is_left_to_itself() -> None:
    waiting = Event()
    assert within(0.1, waiting.wait, False) is False
    waiting.set()
    with pytest.raises(ConnectionError, match="no"):
        within(5, lambda: (_ for _ in ()).throw(ConnectionError("no")), None)


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
    def limits() -> tuple[int | None, float | None]:
        groups = seen.own_groups(tmp_path, tmp_path / "own")
        return seen.memory_limit(groups), seen.cpu_quota(groups)

    assert limits() == (None, None)
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert limits() == (600, 1.5)
    job = tmp_path / "slurm/job_7"
    job.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/slurm/job_7\n")
    (job / "memory.max").write_text("100\n")
    (job / "cpu.max").write_text("max 100000\n")
    assert limits() == (100, 1.5)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert limits() == (100, None)


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
    assert (seen.memory_limit(groups), seen.cpu_quota(groups)) == (900, None)


def test_torch_is_read_and_not_imported() -> None:
    code = (
        "import sys; from wsss.doctor.seen import find_torch; found = find_torch(ask=False); "
        "assert 'torch' not in sys.modules; print(found.version, found.cuda)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch = pytest.importorskip("torch")
    assert done.stdout.split() == [torch.__version__, *filter(None, [torch.version.cuda])]
