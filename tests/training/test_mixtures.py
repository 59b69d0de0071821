"""Mixtures of given masks, seeds and tags: pure cases, resumed runs, and what is refused."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wsss.artifacts import Annotations, write_label_png
from wsss.config.segmentation import TrainSegmenterSettings
from wsss.registry import TAG_FORMS
from wsss.training.loop import Fitted
from wsss.training.segmentation import fit_segmenter
from wsss.training.task import Task

Fit = Callable[..., tuple[dict[str, Tensor], Fitted]]


def settings_of(**values: Any) -> TrainSegmenterSettings:
    """Two epochs of two steps, of a network that takes moments."""
    given = {
        "batch_size": 4,
        "epochs": 2,
        "model": {"arch": "unet", "arch_kwargs": {"decoder_channels": [8] * 5}},
        "augment": {"crop_size": 64, "long_side": [64, 80]},
        "eval_long_side": 64,
        "optimizer": {"algorithm": "adamw", "lr": 0.002, "head_lr_factor": 1},
    }
    return TrainSegmenterSettings.model_validate(given | values)


@pytest.fixture
def fit(halves: Task, classifier: Path, tmp_path: Path) -> Fit:
    """Trains anew, with masks given to the named images; gives the weights and the fit."""
    count = iter(range(100))

    def run(given: str, task: Task = halves, seeds: str = "", **values: Any) -> Any:
        work = tmp_path / f"fit{next(count)}"
        work.mkdir()
        annotations = Annotations(
            tmp_path / "given", tmp_path / "partial", frozenset(given), frozenset(seeds)
        )
        model, fitted = fit_segmenter(
            settings_of(**values),
            replace(task, work=work),
            tmp_path / "masks",
            annotations,
            classifier,
        )
        return model.state_dict(), fitted

    return run


def same(first: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], other[name]) for name in first)


def test_masks_of_all_images_are_full_supervision_under_every_form(fit: Fit) -> None:
    """An empty N2 is the pure case, to the last bit, whatever says how N2 is mixed in."""
    pure, fitted = fit("")
    for name in TAG_FORMS.names():
        mixture = {"given_share": 0.5, "given_weight": 3.0, "tags_only": {"name": name}}
        found, refitted = fit("01234567", **mixture)
        assert same(pure, found), name
        losses = [[row["train_loss"] for row in item.history] for item in (fitted, refitted)]
        assert losses[0] == losses[1], name


def test_a_weight_of_masks_that_nobody_gave_changes_nothing(fit: Fit) -> None:
    """An empty N1 is the pure case, too."""
    assert same(fit("")[0], fit("", given_weight=3.0)[0])


def test_ignoring_images_with_tags_alone_is_training_on_the_others(
    fit: Fit, halves: Task, tmp_path: Path
) -> None:
    """The few masks alone; what lies in pseudo masks of other images is not read."""
    splits = halves.manifest.splits
    few = replace(halves.manifest, splits=splits | {"train": splits["train"][:4]})
    alone, _ = fit("", replace(halves, manifest=few), images_per_epoch=8)
    for index in range(4, 8):
        (tmp_path / f"masks/{index}.png").unlink()
    among, _ = fit("0123", images_per_epoch=8, tags_only={"name": "ignored"})
    assert same(alone, among)


@pytest.mark.parametrize(("form", "alone"), [("ignored", True), ("pseudo_masks", False)])
def test_an_epoch_is_judged_by_masks_of_annotators_where_pseudo_masks_teach_nothing(
    fit: Fit, halves: Task, tmp_path: Path, form: str, alone: bool
) -> None:
    first, *others = (sample.name for sample in halves.manifest.splits["selection"])
    scores = []
    for _ in range(2):
        _, fitted = fit(f"0123{first}", tags_only={"name": form}, images_per_epoch=8)
        scores.append([row["selection_pseudo_mean_iou"] for row in fitted.history])
        for name in others:  # what nobody drew is wrong now
            write_label_png(tmp_path / f"masks/{name}.png", np.ones((64, 64), np.uint8))
    assert (scores[0] == scores[1]) == alone


def test_seeds_teach_where_there_is_no_mask(fit: Fit, tmp_path: Path) -> None:
    """Points and scribbles: partial cross-entropy, with the CRF's energy beside it."""
    for index in range(8):
        seeds = np.full((64, 64), 255, np.uint8)
        seeds[30:34, 4:12], seeds[30:34, 48:60] = 1 + index % 2, 0
        write_label_png(tmp_path / f"partial/seeds/{index}.png", seeds)
    losses = [{"name": "cross_entropy"}, {"name": "dense_crf"}]
    _, fitted = fit("", seeds="01234567", losses=losses, tags_only={"name": "ignored"}, epochs=8)
    assert fitted.score > 0.6
    assert {"train_loss", "train_cross_entropy", "train_dense_crf"} <= fitted.history[0].keys()
    pseudo, _ = fit("")
    assert not same(pseudo, fit("", seeds="01234567", tags_only={"name": "self_training"})[0])


def test_the_mean_of_weights_is_scored_and_kept(fit: Fit) -> None:
    last, _ = fit("", epochs=1)
    mean, _ = fit("", epochs=1, ema_decay=0.99)  # two steps: the mean of both
    assert not same(last, mean)
    first = fit("", epochs=1, ema_decay=1e-9)[0]
    torch.testing.assert_close(first, last, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"given_share": 0.5}, r"given_share is 0.5, but no training image.*pixel_labels"),
        ({"tags_only": {"name": "ignored"}}, r"tags_only.name is 'ignored', but .*pixel_labels"),
        ({"model": {"frozen_stages": 9}}, r"^model.frozen_stages is 9, but the encoder has 5"),
    ],
)
def test_masks_that_are_asked_for_and_were_not_given_are_named(
    fit: Fit, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit("", **values)


KILLED = """
import hashlib, os, signal, sys
from dataclasses import replace
from pathlib import Path

import wsss.training.loop as loop
from conftest import halves_task, save_small_classifier
from test_mixtures import settings_of
from wsss.artifacts import Annotations
from wsss.registry import TAG_FORMS
from wsss.training.segmentation import fit_segmenter

folder = Path(sys.argv[1])


def train(name, kind):
    import torch

    torch.set_num_threads(1)
    calls, step = iter(range(100)), loop._step

    def counted(*args):
        if kind == "killed" and next(calls) == 3:  # in the middle of the second epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args)

    loop._step = counted
    task = halves_task(folder)
    work = folder / f"{name}_{kind.replace('resumed', 'killed')}"
    work.mkdir(exist_ok=True)
    settings = settings_of(
        tags_only={"name": name}, given_share=0.5, given_weight=2, images_per_epoch=8,
        ema_decay=0.9, losses=[{"name": "cross_entropy", "class_weights": "median_frequency"}],
        augment={"crop_size": 32, "long_side": [32, 40], "class_crops": {"share": 0.3}},
        eval_long_side=32,
    )
    annotations = Annotations(folder, folder, frozenset("012"))
    model, _ = fit_segmenter(
        settings, replace(task, work=work), folder / "masks", annotations, folder / "classifier"
    )
    values = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    (folder / f"{name}_{kind}.sha").write_text(hashlib.sha256(values).hexdigest())


def forked(function, *args):
    child = os.fork()
    if not child:
        function(*args)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


assert forked(save_small_classifier, folder / "classifier") == 0
for name in TAG_FORMS.names():
    for kind, code in (("whole", 0), ("killed", -signal.SIGKILL), ("resumed", 0)):
        assert forked(train, name, kind) == code, (name, kind)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_every_form_gives_the_same_bytes_after_a_kill_in_the_middle(
    halves: Task, tmp_path: Path
) -> None:
    """kill -9 in the second epoch, and a rerun, against a run that nobody disturbed."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    for name in TAG_FORMS.names():
        hashes = {(tmp_path / f"{name}_{kind}.sha").read_text() for kind in ("whole", "resumed")}
        assert len(hashes) == 1, name
