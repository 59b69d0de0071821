"""All rows of a study on the same few images, in one picture."""

from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, Paths, fingerprint, read_json, write_json
from wsss.report import PanelColumn, choose_samples, draw_panel
from wsss.stages import find_stages
from wsss.study.plan import CHAIN, Ground, Plan, ground_of, row_params
from wsss.study.run import RESULTS, row_folder
from wsss.tracking import experiment_name, open_tracker

__all__ = ["write_study_panel"]

NUM_IMAGES = 8
_PREDICTIONS = "data/predictions"


def write_study_panel(root: Path, study: str, plan: Plan, size: str) -> Path | None:
    """Draw what every row that has run predicts, or takes at its own threshold, and the truth.

    The picture is recorded in MLflow as a run of its own, anew whenever it changes.

    Args:
        root: the project.
        study: its name.
        plan: its rows, in whose order the columns are.
        size: a name in plan.sizes.

    Returns:
        The file, .study/rows/<study>-<size>-panel/panel.png; None where no row has either.
    """
    records, ground = {}, ground_of(root, plan, size)
    for row in plan.rows:
        path = row_folder(root, study, size, row, 0) / "recorded.json"
        record = read_json(path) if path.exists() else {}
        is_known = ground.is_that_of(Ground.parse(record.get("ground") or ""))
        outs = record.get("outs", ())
        scored = record.get("threshold") is not None and f"data/refined/{CHAIN}" in outs
        shows = scored or _PREDICTIONS in outs
        if shows and is_known:
            records[row] = record
    if not records:
        return None

    def paths(record: dict[str, Any], out: str) -> Paths:
        return Paths(root / RESULTS / record["outs"][out])

    first = next(iter(records.values()))
    data = paths(first, "data/images")
    manifest = Manifest.read(paths(first, "data/splits").splits)

    def column(row: str, record: dict[str, Any]) -> PanelColumn:
        if _PREDICTIONS in record["outs"]:
            return PanelColumn(row, "mask", paths(record, _PREDICTIONS).predictions / "val")
        refined = paths(record, f"data/refined/{CHAIN}").refined(CHAIN)
        return PanelColumn(row, "scores", refined, record["threshold"])

    columns = [
        column(row, record)
        for row, record in records.items()
        if record["images"] == first["images"]
    ]
    columns.append(PanelColumn("ground truth", "ground_truth", data.masks))
    folder = root / RESULTS / "rows" / f"{study}-{size}-panel"
    out = folder / "panel.png"
    samples = choose_samples(manifest.splits["val"], NUM_IMAGES)
    draw_panel(out, data.images, samples, columns, manifest.class_names)
    recorded, key = folder / "recorded.json", fingerprint(files=[out])
    if not recorded.exists() or read_json(recorded)["key"] != key:
        params = row_params(root, plan, next(iter(records)), size)
        tags = {"mlflow.runName": f"{study} {size} panel"}
        pipeline = find_stages()
        target = pipeline.target(plan.targets[-1], params)
        settings = pipeline.settings(target, params)
        experiment = experiment_name(params.machine.experiment, "studies")
        with open_tracker("study", folder, experiment, settings, key=key, tags=tags) as tracker:
            tracker.artifact(out)
        write_json(recorded, {"key": key})
    return out
