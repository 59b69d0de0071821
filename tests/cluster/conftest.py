"""Services that the tests here need, each as a fixture."""

from ..launch.toy_project import project, start
from .mlflow_server import mlflow_server
from .postgres_server import postgres
from .s3_server import s3
from .slurm_node import slurm

__all__ = ["mlflow_server", "postgres", "project", "s3", "slurm", "start"]
