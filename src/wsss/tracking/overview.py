"""The strip above an experiment's runs: their scores, side by side."""

from collections.abc import Sequence
from typing import Any

from mlflow.tracking import MlflowClient

__all__ = ["overview", "write_overview"]

NUM_ROWS = 20
PICTURES = "Pictures side by side: the third of the views above (table)."


def write_overview(client: MlflowClient, experiment_id: str) -> None:
    """Write the latest runs of an experiment into its note."""
    runs = client.search_runs([experiment_id], max_results=NUM_ROWS)
    client.set_experiment_tag(experiment_id, "mlflow.note.content", overview(runs))


def overview(runs: Sequence[Any]) -> str:
    """Lay the metrics of runs out as a Markdown table; without their common ending.

    Args:
        runs: of MLflow, newest first.
    """
    ending = ".val_mean_iou"
    keys = sorted({key for run in runs for key in run.data.metrics if key.endswith(ending)})
    lines = [
        ["mean IoU on val", *(key.removesuffix(ending) for key in keys)],
        ["---", *("---:" for _ in keys)],
    ]
    for run in runs:
        values = [run.data.metrics.get(key) for key in keys]
        cells = ["" if value is None else f"{value:.4f}" for value in values]
        lines.append([str(run.info.run_name).replace("|", r"\|"), *cells])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{PICTURES}"
