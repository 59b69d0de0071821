"""What MLflow runs when it loads a registered model; a copy of it lies in the model."""

from mlflow.models import set_model

from wsss.serving.mlflow_model import SegmenterModel

set_model(SegmenterModel())
