"""MLflow's artifacts and DVC's remote in an S3 store."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .mlflow_server import MlflowServer
from .postgres_server import PostgresServer
from .s3_server import S3Server

pytestmark = pytest.mark.cluster


def test_a_wrong_key_is_refused(s3: S3Server) -> None:
    errors = pytest.importorskip("botocore.exceptions")
    assert s3.client().list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200
    with pytest.raises(errors.ClientError, match=r"403|Denied|SignatureDoesNotMatch"):
        s3.client(key="wrong").list_buckets()


def test_dvc_pushes_and_pulls(s3: S3Server, tmp_path: Path) -> None:
    pytest.importorskip("dvc_s3", reason="needs dvc-s3: pip install '.[s3]'")
    bucket = f"dvc-{uuid.uuid4()}"
    s3.client().create_bucket(Bucket=bucket)
    environment = {**os.environ, **s3.login}

    def dvc(*arguments: str) -> None:
        done = subprocess.run(
            ["dvc", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    (tmp_path / "data/deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    contents = {f"data/deep/{i}.bin": rng.bytes(1000 * i) for i in range(20)}
    contents["data/große Katze.bin"] = rng.bytes(9_000_000)  # in several parts
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    dvc("init", "--no-scm", "--quiet")
    dvc("remote", "add", "--default", "team", f"s3://{bucket}")
    dvc("remote", "modify", "team", "endpointurl", s3.url)
    dvc("add", "--quiet", "data")
    dvc("push", "--quiet")
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / ".dvc/cache")
    dvc("pull", "--quiet")
    found = {str(path.relative_to(tmp_path)): path for path in tmp_path.glob("data/**/*.bin")}
    assert {name: path.read_bytes() for name, path in found.items()} == contents


@pytest.fixture
def stored(postgres: PostgresServer, s3: S3Server) -> Iterator[MlflowServer]:
    """A tracking server whose artifacts are in the store, as compose.yaml has it."""
    pytest.importorskip("flask_wtf", reason="needs a login page: pip install 'mlflow[auth]'")
    stores = {f"{name}_{what}": s3.url for name in ("ARTIFACTS", "REMOTE") for what in ("URL",)}
    stores |= {"ARTIFACTS_KEY": s3.key, "REMOTE_KEY": s3.key}
    server = MlflowServer(
        postgres,
        Path(tempfile.mkdtemp(prefix="wsss-mlflow-")),
        environment={
            **stores,
            **s3.login,
            "MLFLOW_S3_ENDPOINT_URL": s3.url,
            "MLFLOW_ARTIFACTS": "s3://mlflow/artifacts",
        },
    )
    try:
        server.init()
        server.init()  # it may be repeated
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)


def test_artifacts_go_through_the_server_into_the_store(
    stored: MlflowServer, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)  # the client needs none of them
    buckets = {bucket["Name"] for bucket in s3.client().list_buckets()["Buckets"]}
    assert {"mlflow", "dvc"} <= buckets
    client = stored.client(monkeypatch)
    run = client.create_run(client.create_experiment(f"s3 {uuid.uuid4()}")).info
    content = np.random.default_rng(0).bytes(9_000_000)
    (tmp_path / "panel.png").write_bytes(content)
    client.log_artifact(run.run_id, str(tmp_path / "panel.png"))
    client.log_table(run.run_id, {"image": ["a"]}, "panel.json")
    assert [item.path for item in client.list_artifacts(run.run_id)] == ["panel.json", "panel.png"]
    (kept,) = (s3.folder / "mlflow").glob(
        f"artifacts/{run.experiment_id}/{run.run_id}/**/panel.png"
    )
    assert kept.read_bytes() == content
    assert Path(client.download_artifacts(run.run_id, "panel.png")).read_bytes() == content
