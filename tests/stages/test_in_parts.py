"""Every stage that works on images, in parts: what one process makes, to the last byte."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from wsss.artifacts import Paths
from wsss.config.params import Params, parse_params
from wsss.launch import Failure, PartDone, Site, Task, current_part
from wsss.pipeline import Job
from wsss.pipeline.outcome import run_job
from wsss.stages import find_stages, run_stage
from wsss.tracking import NullTracker

NETWORK: dict[str, Any] = {
    "batch_size": 4,
    "epochs": 1,
    "augment": {"crop_size": 32, "long_side": [32, 40]},
    "eval_long_side": 32,
}
PARAMS = parse_params(
    {
        "machine": {"accelerator": "cpu", "num_workers": 0},
        "prepare_data": {
            "dataset": {"name": "synthetic", "num_train": 14, "num_val": 5, "image_size": [48, 64]},
            "selection_share": 0.2,
            "box_labels": 0.5,
        },
        "train_classifier": NETWORK | {"backbone": {"model_name": "resnet10t"}},
        "generate_cams": {"scales": [1.0], "batch_size": 2},
        "further_cams": {"more": {"scales": [0.5]}, "wide": {"window": 48}},
        "make_proposals": {"slic": {"name": "superpixels"}},
        "refine": {"chains": {"crf": [{"name": "dense_crf", "n_iters": 2}]}},
        "make_pseudo_masks": {"threshold": 0.3},
        "train_segmenter": NETWORK,
        "predict_masks": {"scales": [1.0], "batch_size": 2, "filter_recall": 0.9, "window": 60},
    }
)
ORDER = (
    "train_classifier",
    "generate_cams",
    "generate_further_cams",
    "make_proposals",
    "refine_cams@crf",
    "evaluate_refined@crf",
    "make_pseudo_masks",
    "train_segmenter",
    "predict_masks",
)
IN_PARTS = [
    name for name in ORDER if find_stages()[name.partition("@")[0]].spread(PARAMS) == "images"
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of which one process made everything."""
    root = tmp_path_factory.mktemp("parts")
    for name in ("prepare_data", *ORDER):
        run_stage(name, PARAMS, Paths(root))
    return root


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Those that ran, each in this very process and as itself, the last one first."""
    ran: list[Task] = []

    def run(
        wanted: Sequence[Task], _: object, root: Path, *__: object, **___: object
    ) -> list[Failure]:
        for task in reversed(wanted):
            ran.append(task)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in task.environment.items():
                    patch.setenv(name, value)
                part = current_part()
                assert part is not None
                own = parse_params(part.params)
                target = find_stages().target("@".join(task.command[3:]), own)
                with suppress(PartDone):
                    Job(find_stages(), target, own, Paths(root), NullTracker(), part=part).run()
                    pytest.fail("it went on after its part")
        return []

    monkeypatch.setattr("wsss.launch.filling.run_tasks", run)
    for name in ("WSSS_ENGINE", "WSSS_PART"):
        monkeypatch.delenv(name, raising=False)
    return ran


def hashes(root: Path, name: str, params: Params = PARAMS) -> dict[str, str]:
    """Of all files that a stage made, and of its report."""
    target = find_stages().target(name, params)
    files = [root / f"reports/{target.report}.json"]
    for out in target.outs(params):
        files += [file for file in sorted((root / out).rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def test_all_stages_of_images_are_here() -> None:
    spread = {stage.name for stage in find_stages() if stage.spread(PARAMS) == "images"}
    assert {name.partition("@")[0] for name in IN_PARTS} == spread


@pytest.mark.parametrize("name", IN_PARTS)
def test_parts_make_what_one_process_makes(finished: Path, tasks: list[Task], name: str) -> None:
    alone = hashes(finished, name)
    target = find_stages().target(name, PARAMS)
    made = finished / target.outs(PARAMS)[0]
    kept = made.with_name("kept")
    os.replace(made, kept)
    (finished / f"reports/{target.report}.json").unlink()
    try:
        site = Site(engine="local", tasks=3)
        job = Job(find_stages(), target, PARAMS, Paths(finished), NullTracker(), site=site)
        with job.whole():
            run_job(job)
        assert hashes(finished, name) == alone
    finally:
        shutil.rmtree(kept)
    per_folder = 2 if name == "generate_further_cams" else 1
    assert len(tasks) == 3 * per_folder


@pytest.mark.parametrize("name", IN_PARTS)
def test_the_process_that_finishes_makes_nothing_itself(
    finished: Path, tasks: list[Task], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would do on a login node what it was told to leave to others."""
    target = find_stages().target(name, PARAMS)
    made = finished / target.outs(PARAMS)[0]
    shutil.rmtree(made)
    written: list[Path] = []
    for module in ("_cams", "refine_cams", "make_proposals", "predict_masks"):
        for writer in ("write_score_map", "write_proposals", "write_label_png"):
            where = f"wsss.stages.{module}.{writer}"
            with suppress(AttributeError):
                monkeypatch.setattr(where, _noting(where, written))
    job = Job(
        find_stages(), target, PARAMS, Paths(finished), NullTracker(),
        site=Site(engine="local", tasks=2),
    )  # fmt: skip
    with job.whole():
        run_job(job)
    assert len(written) == len(set(written))


def _noting(where: str, written: list[Path]) -> Any:
    import importlib

    module, _, name = where.rpartition(".")
    write = getattr(importlib.import_module(module), name)

    def noted(path: Path, *args: Any) -> None:
        written.append(path)
        write(path, *args)

    return noted
