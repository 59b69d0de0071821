"""The pipeline: one page per stage, named as in dvc.yaml and in MLflow."""
