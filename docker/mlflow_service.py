"""Prepare the stores of compose.yaml, and start the servers that stand on them.

    python mlflow_service.py init        databases, tables, users and buckets; may be repeated
    python mlflow_service.py serve       MLflow
    python mlflow_service.py dashboard   optuna-dashboard, which has no login

Passwords come from the environment and are never arguments, which other processes can read.
"""

import configparser
import os
import sys
from urllib.parse import quote

DATABASES = ("mlflow", "mlflow_auth", "optuna")
BUCKETS = {"ARTIFACTS": "mlflow", "REMOTE": "dvc"}
"""By store the one bucket in it. Each store has a key of its own, and an address."""

AUTH_CONFIG = os.environ.get("AUTH_CONFIG", "/tmp/mlflow_auth.ini")
ALLOWED_HOSTS = "mlflow,mlflow:*,localhost,localhost:*,127.0.0.1,127.0.0.1:*"


def database_url(name: str, driver: str = "+psycopg") -> str:
    """The URL of one database, whatever characters the password has."""
    host = os.environ.get("PG_HOST", "postgres")
    return f"postgresql{driver}://wsss:{quote(os.environ['PG_PASSWORD'], safe='')}@{host}/{name}"


def init() -> None:
    """Make what is missing, upgrade what is old, and set the passwords of both users."""
    import psycopg

    with psycopg.connect(database_url("postgres", driver=""), autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in there:
                connection.execute(f'CREATE DATABASE "{name}"')

    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as UserStore
    from mlflow.store.db.utils import _safe_initialize_tables as initialize
    from mlflow.store.db.utils import _upgrade_db, create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(database_url("mlflow"))
    initialize(engine)
    _upgrade_db(engine)

    users = UserStore()
    users.init_db(database_url("mlflow_auth"))
    for name, variable in (
        ("admin", "MLFLOW_ADMIN_PASSWORD"),
        ("worker", "MLFLOW_WORKER_PASSWORD"),
    ):
        password = os.environ[variable]
        if users.has_user(name):
            users.update_user(name, password=password)
        else:
            users.create_user(name, password, is_admin=name == "admin")

    from optuna.storages import RDBStorage

    # the first of several workers would make the tables while the others ask for them
    RDBStorage(database_url("optuna"), skip_compatibility_check=True).upgrade()
    for store, bucket in BUCKETS.items():
        if f"{store}_KEY" in os.environ:
            make_bucket(store, bucket)
    print("databases, tables, users and buckets are ready")


def make_bucket(store: str, bucket: str) -> None:
    """Make the bucket of a store unless it is there."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=os.environ[f"{store}_URL"],
        aws_access_key_id="wsss",
        aws_secret_access_key=os.environ[f"{store}_KEY"],
        region_name="us-east-1",
    )
    if bucket not in {known["Name"] for known in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)


def serve() -> None:
    """Replace this process by MLflow's server."""
    config = configparser.RawConfigParser()
    config["mlflow"] = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": database_url("mlflow_auth").replace("%", "%%"),  # the file's escape
        "admin_username": "admin",
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": "60",
    }
    with os.fdopen(os.open(AUTH_CONFIG, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        config.write(file)
    os.environ |= {
        "MLFLOW_AUTH_CONFIG_PATH": AUTH_CONFIG,
        "MLFLOW_BACKEND_STORE_URI": database_url("mlflow"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    options = {
        "--host": os.environ.get("MLFLOW_LISTEN", "0.0.0.0"),
        "--port": os.environ.get("MLFLOW_PORT", "5000"),
        "--workers": os.environ.get("MLFLOW_WORKERS", "2"),
        "--app-name": "basic-auth",
        "--artifacts-destination": os.environ.get("MLFLOW_ARTIFACTS", "s3://mlflow/artifacts"),
        "--allowed-hosts": ALLOWED_HOSTS,
    }
    os.execvp("mlflow", ["mlflow", "server", *(part for pair in options.items() for part in pair)])


def dashboard() -> None:
    """Show the studies; whoever reaches the port may look at them."""
    from optuna_dashboard import run_server

    run_server(database_url("optuna"), host="0.0.0.0", port=8080)


if __name__ == "__main__":
    {"init": init, "serve": serve, "dashboard": dashboard}[sys.argv[1]]()
