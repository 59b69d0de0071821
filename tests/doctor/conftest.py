"""A finished run as files: everything is as it should be, until a test spoils it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    read_json,
    write_json,
    write_label_png,
    write_score_map,
)
from wsss.config.params import Params, parse_params
from wsss.doctor.results import ResultCheck, check_results
from wsss.pipeline import Job
from wsss.stages import find_stages
from wsss.tracking import NullTracker

CLASSES = ("boat", "sheep", "tree")
SIZE = (24, 32)
COUNTS = {"train": 20, "selection": 24, "val": 24}
EPOCHS = 6

Paint = Callable[[Sample, np.ndarray], np.ndarray]


class Run:
    """A project of three classes whose objects lie anywhere, and what its stages made.

    Attributes:
        root: of the project.
        tree: its settings, as plain values.
        objects: by name of an image the mask of its objects, (H, W) uint8, as it is painted.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.paths = root, Paths(root)
        self.tree: dict[str, Any] = {
            "machine": {"accelerator": "cpu", "num_workers": 0},
            "train_classifier": {"epochs": EPOCHS},
            "train_segmenter": {"epochs": EPOCHS},
            "refine": {"chains": {"none": [], "other": []}},
            "make_pseudo_masks": {"chain": "none"},
        }
        self.objects: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(7)
        splits = {}
        for split, count in COUNTS.items():
            samples = [self._sample(f"{split}{at:02}", at) for at in range(count)]
            splits[split] = tuple(samples)
        self.manifest = Manifest(CLASSES, splits)
        self.manifest.write(self.paths.splits)

    @property
    def params(self) -> Params:
        return parse_params(self.tree)

    def _sample(self, name: str, at: int) -> Sample:
        """Every eighth image has no class, two of five two; each object in its own place."""
        ids = ((1,), (2,), (3,), (1, 3), (2, 3))[at % 5] if at % 8 < 7 else ()
        mask = np.zeros(SIZE, np.uint8)
        for place, class_id in enumerate(ids):
            y, x = self.rng.integers(0, 14), self.rng.integers(0, 8) + 16 * place
            mask[y : y + self.rng.integers(6, 10), x : x + 8] = class_id
        pixels = self.rng.integers(60, 90, (*SIZE, 3)) + 40 * mask[..., None]
        self.paths.images.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(self.paths.images / f"{name}.png")
        write_label_png(self.paths.masks / f"{name}.png", mask)
        self.objects[name] = mask
        return Sample(name, f"{name}.png", SIZE, ids, f"{name}.png")

    def retag(self, tags: Callable[[Sample], tuple[int, ...]]) -> None:
        """Give the images other tags."""
        splits = {
            split: tuple(replace(sample, class_ids=tags(sample)) for sample in samples)
            for split, samples in self.manifest.splits.items()
        }
        self.manifest = replace(self.manifest, splits=splits)
        self.manifest.write(self.paths.splits)

    def samples(self) -> list[Sample]:
        return self.manifest.all_samples()

    def write_maps(self, paint: Callable[[Sample, int], np.ndarray] | None = None) -> None:
        """CAMs, and what both chains make of them: of each tag, high where its object is."""
        for sample in self.samples():
            ids = np.array(sample.class_ids, np.uint8)
            scores = np.zeros((len(ids), *SIZE), np.float32)
            for row, class_id in enumerate(sample.class_ids):
                own = self.objects[sample.name] == class_id
                scores[row] = 0.1 + 0.8 * own if paint is None else paint(sample, class_id)
            found = ScoreMap(ids, scores, SIZE, np.full(len(ids), 0.9, np.float32))
            for folder in (
                self.paths.cams,
                self.paths.refined("none"),
                self.paths.refined("other"),
            ):
                write_score_map(folder / f"{sample.name}.npz", found)

    def write_masks(self, paint: Paint = lambda _, mask: mask) -> None:
        """Pseudo masks, of the objects or of what becomes of them."""
        for sample in self.samples():
            mask = paint(sample, self.objects[sample.name].copy())
            write_label_png(self.paths.pseudo_masks / f"{sample.name}.png", mask.astype(np.uint8))

    def write_predictions(self, paint: Paint = lambda _, mask: mask) -> None:
        """Predictions of val, and what their stage says of them."""
        from wsss.stages._warnings.tally import mask_tally, prediction_warnings

        folder, tally = self.paths.predictions / "val", mask_tally()
        for sample in self.manifest.splits["val"]:
            mask = paint(sample, self.objects[sample.name].copy()).astype(np.uint8)
            write_label_png(folder / f"{sample.name}.png", mask)
            tally.note(sample, mask)
        job = self.job("predict_masks")
        prediction_warnings(job, tally, self.manifest, ["val"])
        job.report({"num_images": len(self.manifest.splits["val"])})

    def write_training(self, stage: str, rows: Mapping[str, list[float]], **values: Any) -> None:
        """The report and the curve of a training."""
        columns = ["epoch", *rows]
        count = max(map(len, rows.values()))
        self.job(stage).curve(
            [{"epoch": at} | {key: held[at] for key, held in rows.items()} for at in range(count)],
            columns,
        )
        write_json(self.paths.report(stage), values)

    def write_classifier(self, precision: Mapping[str, float] | None = None, **values: Any) -> None:
        """A classifier that has learned, or not what is given."""
        precision = dict.fromkeys(CLASSES, 0.95) | dict(precision or {})
        for name, value in precision.items():
            values[f"classes/selection/average_precision/{name}"] = value
            values[f"classes/selection/prevalence/{name}"] = 0.4
        curve = {
            "train_loss": [0.6, 0.4, 0.3, 0.2, 0.15, 0.12],
            "selection_map": [0.7, 0.8, 0.9, 0.93, 0.95, 0.95],
        }
        values = {"best_epoch": 6, "selection_map": 0.95, "val_map": 0.93} | values
        self.write_training("train_classifier", curve, **values)

    def write_segmenter(self, scores: list[float] | None = None, **values: Any) -> None:
        curve = {
            "train_loss": [0.5, 0.3, 0.25, 0.2, 0.18, 0.17],
            "selection_pseudo_mean_iou": scores or [0.5, 0.6, 0.7, 0.75, 0.77, 0.78],
        }
        self.write_training("train_segmenter", curve, **({"best_epoch": 6} | values))

    def job(self, name: str) -> Job:
        pipeline, params = find_stages(), self.params
        return Job(pipeline, pipeline.target(name, params), params, self.paths, NullTracker())

    def stage(self, *names: str) -> None:
        """Run stages, without the pictures that they would draw."""
        for name in names:
            job = self.job(name)
            with job.whole():
                job.run()

    def whole(self) -> "Run":
        """All that the stages make, in order; what they score, they score."""
        self.write_classifier()
        self.write_maps()
        write_json(self.paths.report("generate_cams"), {"num_images": len(self.samples())})
        self.evaluate_maps()
        write_json(self.paths.report("make_pseudo_masks"), {"num_images": len(self.samples())})
        self.write_masks()
        self.write_segmenter()
        self.write_predictions()
        self.stage("evaluate_pseudo_masks", "evaluate_segmenter")
        return self

    def evaluate_maps(self) -> None:
        self.stage("evaluate_cams", "evaluate_refined@none", "evaluate_refined@other")

    def fill_masks(self) -> None:
        """Pseudo masks of a class everywhere, of two classes in halves."""

        def fill(sample: Sample, mask: np.ndarray) -> np.ndarray:
            if sample.class_ids:
                mask[:, :16], mask[:, 16:] = sample.class_ids[0], sample.class_ids[-1]
            return mask

        self.write_masks(fill)

    def check(self, *targets: str, **options: int) -> ResultCheck:
        """What is wrong with it."""
        return check_results(self.root, self.params, targets, **options)

    def sample(self, name: str) -> Sample:
        return next(sample for sample in self.samples() if sample.name == name)

    def change_report(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change what a stage reported."""
        report = read_json(self.paths.report(name))
        change(report)
        write_json(self.paths.report(name), report)


@pytest.fixture(scope="session")
def run_of_all_stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a healthy run."""
    return Run(tmp_path_factory.mktemp("healthy")).whole().root


@pytest.fixture
def run(run_of_all_stages: Path, tmp_path: Path) -> Run:
    """A healthy run of its own."""
    import shutil

    found = Run(tmp_path / "project")
    shutil.copytree(run_of_all_stages, found.root, dirs_exist_ok=True)
    return found
