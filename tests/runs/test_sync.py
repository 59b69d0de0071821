"""Runs of what is there, whoever made it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from wsss.config.params import load_params
from wsss.runs.sync import sync_runs
from wsss.tracking import tracking_uri

STAGES = [
    "prepare_data",
    "train_classifier",
    "generate_cams",
    "evaluate_cams",
    "refine_cams@crf",
    "refine_cams@none",
    "evaluate_refined@crf",
    "evaluate_refined@none",
    "make_pseudo_masks",
    "evaluate_pseudo_masks",
    "train_segmenter",
    "predict_masks",
    "evaluate_segmenter",
    "report",
]


def runs_of(root: Path, experiment: str) -> dict[str, Any]:
    """Active runs by their names."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(root))
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], order_by=["start_time ASC"])
    named = {run.info.run_name: run for run in runs}
    assert len(named) == len(runs), "two runs have one name"
    return named


def artifacts(root: Path, run: Any) -> set[str]:
    from mlflow.tracking import MlflowClient

    return {item.path for item in MlflowClient(tracking_uri(root)).list_artifacts(run.info.run_id)}


def test_what_dvc_restores_has_a_run_with_scores_and_pictures_once(project: Path) -> None:
    done = sync_runs(project, load_params())
    assert sorted(done.restored) == sorted(STAGES)
    assert done.stale == ()
    runs = runs_of(project, "wsss stages")
    assert sorted(runs) == sorted(STAGES)
    assert all(run.data.tags["restored"] == "true" for run in runs.values())
    assert all(run.info.status == "FINISHED" for run in runs.values())
    segmenter, cams = runs["evaluate_segmenter"], runs["evaluate_cams"]
    assert segmenter.data.metrics["val/mean_iou"] == 1
    assert artifacts(project, segmenter) == {"panel.png", "evaluate_segmenter.json"}
    files = {"panel.png", "curve.png", "evaluate_cams.json", "evaluate_cams_curve.csv"}
    assert artifacts(project, cams) == files
    assert runs["train_classifier"].data.metrics == {"best_val_map": 0.75, "loss": 0.25}
    # the settings of all before it, so that two scores can be told apart
    assert {"refine.chains.crf.0.sigma_rgb", "base.rng_seed"} <= segmenter.data.params.keys()
    assert (project / "reports/evaluate_segmenter/panel.png").exists()
    shutil.rmtree(project / "reports/evaluate_segmenter")
    again = sync_runs(project, load_params())
    assert (again.restored, again.experiment) == ((), done.experiment)
    assert len(runs_of(project, "wsss stages")) == len(STAGES)
    assert (project / "reports/evaluate_segmenter/panel.png").exists()


def test_an_experiment_is_one_run_named_after_what_changed(project: Path) -> None:
    first = sync_runs(project, load_params())
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("sigma_rgb: 10", "sigma_rgb: 13"))
    second = sync_runs(project, load_params())
    # those after it read the same bytes as before, but the report shows the settings
    assert second.restored == ("refine_cams@crf", "report")
    runs = runs_of(project, "wsss")
    start, changed_name = runs  # the first is named after what differs from its recipe
    assert start.startswith("num_train=") and changed_name == "sigma_rgb=13"
    assert [run.info.run_id for run in runs.values()] == [first.experiment, second.experiment]
    for run in runs.values():
        assert run.data.metrics.keys() == {
            f"{name}.val_mean_iou" for name in ("cam", "crf", "none", "pseudo", "segmenter")
        }
        assert {data.dataset.name for data in run.inputs.dataset_inputs} == {"synthetic"}
        assert {"panel.png", "panel.json", "report.html"} <= artifacts(project, run)
    changed = runs["sigma_rgb=13"]
    assert changed.data.params["refine.chains.crf.0.sigma_rgb"] == "13.0"
    assert "`refine.chains.crf.0.sigma_rgb`: 13" in changed.data.tags["mlflow.note.content"]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(project))
    table = json.loads(
        Path(client.download_artifacts(changed.info.run_id, "panel.json")).read_text("utf-8")
    )
    assert table["columns"][:2] == ["image", "pseudo mask"]  # the grid shows the second one first
    assert set(table["columns"]) == {
        *("image", "input", "CAM", "refined", "pseudo mask", "prediction", "ground truth")
    }
    page = Path(client.download_artifacts(changed.info.run_id, "report.html")).read_text("utf-8")
    made = (project / "data/report/report.html").read_text("utf-8")
    revision = changed.data.tags["git.rev"]
    assert revision in page and revision not in made
    assert "<dt>Times</dt><dd>not known of any stage" in page and "<dt>Times</dt>" not in made
    for name, value in changed.data.metrics.items():
        assert name in page and f"{value:.3f}" in page
    # back at the old settings, the old run stands for them
    Path("params.yaml").write_text(text)
    assert sync_runs(project, load_params()).experiment == first.experiment


def test_results_of_something_else_are_not_recorded(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsss.runs import sync

    shutil.rmtree(project / "data/predictions")
    done = sync_runs(project, load_params())
    assert done.stale == ("predict_masks", "evaluate_segmenter", "report")
    assert done.experiment == ""
    assert "evaluate_segmenter" not in runs_of(project, "wsss stages")
    monkeypatch.delenv("DVC_STAGE")
    monkeypatch.setattr(sync, "changed_stages", lambda root: {"refine_cams@crf"})
    assert "refine_cams@crf" in sync_runs(project, load_params()).stale


def test_a_lost_server_is_said_and_does_not_stop_the_pipeline(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from wsss.runs.sync import main

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    main()
    assert "wsss runs sync" in caplog.text
