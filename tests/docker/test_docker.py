"""Images and compose: linted, and checked for what a careless default would give away.

No engine is needed: hadolint reads the Dockerfiles, podman-compose resolves the compose file.
"""

import configparser
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
SECRETS = (
    "PG_PASSWORD",
    "MLFLOW_ADMIN_PASSWORD",
    "MLFLOW_WORKER_PASSWORD",
    "MLFLOW_SECRET_KEY",
    "ARTIFACTS_KEY",
    "REMOTE_KEY",
)
PUBLIC = {"AWS_ACCESS_KEY_ID", "ROOT_ACCESS_KEY_ID"}  # names of users


def tool(name: str) -> str:
    """Where a development tool is; it comes with the dev extra."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    return found


def resolve(*files: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Resolve compose files with only `variables` set, and no .env file read."""
    options = [part for file in files for part in ("-f", str(DOCKER / file))]
    return subprocess.run(
        [tool("podman-compose"), "--dry-run", "--env-file", os.devnull, *options, "config"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], **variables},
    )


def services(*files: str) -> dict[str, Any]:
    """The services as an engine would get them, each secret as a marker of its own."""
    run = resolve(*(files or ("compose.yaml",)), **{name: f"<{name}>" for name in SECRETS})
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = yaml.safe_load(run.stdout)["services"]
    return found


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path: Path) -> None:
    command = [tool("hadolint"), "--config", str(DOCKER / "hadolint.yaml"), str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def instructions(path: Path) -> list[str]:
    """The instructions of a Dockerfile, continued lines joined, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [
        line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()
    ]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_the_base_is_an_argument(path: Path) -> None:
    """Without it no one can build on a mirror, another CUDA, or a machine without a registry."""
    lines = instructions(path)
    assert re.fullmatch(r"ARG BASE=[\w./-]+:[\w.-]+", lines[0])
    assert not lines[0].endswith(":latest")
    stages = {line.split()[3] for line in lines if re.match(r"FROM \S+ AS ", line)}
    bases = {line.split()[1] for line in lines if line.startswith("FROM ")}
    assert bases <= {"${BASE}", *stages}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_a_numbered_user_who_is_not_root(path: Path) -> None:
    """By number, so that an orchestrator can verify it without reading the image's users."""
    lines = instructions(path)
    last_stage = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in last_stage if line.startswith("USER ")]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_no_secret_is_built_in(path: Path) -> None:
    for line in instructions(path):
        if line.startswith(("ARG", "ENV")):
            assert not re.search("password|secret|token|key", line, re.IGNORECASE), line


def test_the_worker_runs_the_pipeline() -> None:
    assert instructions(DOCKER / "worker.Dockerfile")[-1] == 'CMD ["dvc", "repro"]'


def sources(path: Path) -> set[str]:
    """What a Dockerfile copies from the build context."""
    found: set[str] = set()
    for line in instructions(path):
        if line.startswith("COPY ") and "--from" not in line:
            found.update(part for part in line.split()[1:-1] if not part.startswith("--"))
    return found - {"."}


def test_only_listed_files_reach_an_image_and_all_that_are_copied_do() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    rules = [line for line in lines if not line.startswith("#")]
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"
    assert all(sources(path) <= allowed for path in DOCKERFILES)
    for private in (".git", ".venv", "docker", ".env", "docker/.env", ".dvc", "data", "models"):
        assert private not in allowed
    assert not {rule for rule in allowed if "*" in rule}


@pytest.mark.parametrize("missing", SECRETS)
def test_nothing_starts_without_its_secrets(missing: str) -> None:
    for value in ({}, {missing: ""}):
        others = {name: "given" for name in SECRETS if name != missing}
        run = resolve("compose.yaml", **others, **value)
        assert run.returncode != 0
        assert f"set {missing} in docker/.env" in run.stderr


def test_passwords_have_no_defaults() -> None:
    """Every value that looks like a secret is one of those that the user must give."""
    for name, service in services().items():
        for key, value in service.get("environment", {}).items():
            if re.search("password|secret|token|key", key, re.IGNORECASE) and key not in PUBLIC:
                assert value.strip("<>") in SECRETS, f"{name}: {key}"
            else:
                assert not any(secret in str(value) for secret in SECRETS), f"{name}: {key}"
    example = (DOCKER / ".env.example").read_text()
    given = re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE)
    assert dict(given) == dict.fromkeys(SECRETS, "")


def test_the_secrets_file_is_ignored_by_git() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/docker/.env", "docker/.env", ".env"} & set(ignored)


def test_only_loopback_is_published() -> None:
    published = {
        name: service["ports"] for name, service in services().items() if service.get("ports")
    }
    assert set(published) == {"mlflow", "optuna-dashboard", "remote"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_only_mlflow_reaches_its_artifacts() -> None:
    """A worker that could would be past MLflow's rights."""
    found = services()
    assert set(found["artifacts"]["networks"]) == {"stores"}
    assert "ARTIFACTS_KEY" not in str(found["worker"])
    assert "stores" not in found["worker"].get("networks", [])


def test_services_are_confined() -> None:
    for name, service in services().items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not {"privileged", "network_mode", "pid", "ipc"} & set(service), name
        assert not any("docker.sock" in str(item) for item in service.get("volumes", [])), name
        if "build" in service:
            assert service["cap_drop"] == ["ALL"], name


def test_each_waits_until_the_other_is_ready() -> None:
    found = services()
    waits = {
        (name, other): wait["condition"]
        for name, item in found.items()
        for other, wait in item.get("depends_on", {}).items()
    }
    assert waits == {
        ("mlflow-init", "postgres"): "service_healthy",
        ("mlflow-init", "artifacts"): "service_healthy",
        ("mlflow-init", "remote"): "service_healthy",
        ("mlflow", "mlflow-init"): "service_completed_successfully",
        ("optuna-dashboard", "mlflow-init"): "service_completed_successfully",
        ("worker", "mlflow"): "service_healthy",
    }
    for (_, other), condition in waits.items():
        assert ("healthcheck" in found[other]) == (condition == "service_healthy")


def test_the_worker_gets_the_gpu_and_memory_to_share() -> None:
    worker = services()["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert worker["shm_size"] == "4gb"


def test_a_machine_without_a_gpu_reserves_none() -> None:
    worker = services("compose.yaml", "compose.cpu.yaml")["worker"]
    assert not worker.get("deploy")
    assert "nvidia" not in str(worker)


def test_any_password_reaches_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three escapes lie between .env and PostgreSQL: the URL, MLflow's ini file, and ours."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    password = "p@ss:/w%rd#?%(x)s"
    monkeypatch.setenv("PG_PASSWORD", password)
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _, command: started.append(command))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    service = runpy.run_path(str(DOCKER / "mlflow_service.py"))
    service["serve"].__globals__["AUTH_CONFIG"] = str(tmp_path / "auth.ini")
    service["serve"]()
    config = configparser.ConfigParser()  # as MLflow reads it
    config.read(tmp_path / "auth.ini")
    for url in (config["mlflow"]["database_uri"], os.environ["MLFLOW_BACKEND_STORE_URI"]):
        assert sqlalchemy.make_url(url).password == password
    assert (tmp_path / "auth.ini").stat().st_mode & 0o077 == 0, "others can read the password"
    (command,) = started
    assert not any(password in part or "w%25rd" in part for part in command)
    assert command[command.index("--app-name") + 1] == "basic-auth"
    assert config["mlflow"]["default_permission"] == "NO_PERMISSIONS"
