"""MLflow as it is installed and set up here."""

import importlib.util
import logging
import os

__all__ = ["has_mlflow", "prepare_mlflow"]


def has_mlflow() -> bool:
    """Say whether MLflow is installed; it is not imported."""
    return importlib.util.find_spec("mlflow") is not None


def prepare_mlflow() -> None:
    """Set what MLflow reads when it is imported and used; what the user has set stays."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # a server that is away must be noticed within seconds
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # it prints a server's address with the login in it
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
