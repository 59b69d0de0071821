"""What MLflow shows of a project: a run of everything that is there, and one run per experiment."""
