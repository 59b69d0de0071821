"""A table of methods on the same data: one recipe per row, one MLflow run per row and seed."""
