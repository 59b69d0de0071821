"""Training affinity networks: the losses pair by pair, what is learned, and resuming."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Sample,
    ScoreMap,
    read_image,
    read_label_png,
    read_score_map,
    write_score_map,
)
from wsss.config.sections import AffinitySettings, MachineSettings
from wsss.loading.devices import make_fabric
from wsss.models.affinity_net import save_network
from wsss.refine import Chain, Context
from wsss.refine.affinity_labels import affinity_labels, pair_labels
from wsss.refine.random_walk import pair_offsets
from wsss.registry import REFINERS
from wsss.seeding import Step
from wsss.tracking import NullTracker
from wsss.training import affinity
from wsss.training.affinity import affinity_losses, displacement_loss, fit_affinity
from wsss.training.task import Task

SIZE = (48, 64)
PATCHES = {
    "model_name": "vit_tiny_patch16_224",
    "output_stride": 4,
    "timm_kwargs": {
        "patch_size": 4,
        "img_size": 32,
        "embed_dim": 24,
        "depth": 4,
        "num_heads": 2,
    },
}
CNN = {"model_name": "resnet10t"}
VALUES: dict[str, Any] = {
    "optimizer": {"algorithm": "adamw", "lr": 0.01, "head_lr_factor": 1},
    "augment": {"crop_size": 48, "long_side": [64, 64]},
    "batch_size": 4,
    "epochs": 4,
}
LABELS = {"sigma_xy": 15, "sigma_rgb": 13}
METHODS: dict[str, dict[str, Any]] = {
    "psa": {"name": "psa", "widths": [8, 8, 8], **LABELS},
    "irn": {"name": "irn", "radius": 4, **LABELS},
}
STEP = Step(np.random.default_rng(0), 0.0, [])
REFINER = {"psa": "affinity_net", "irn": "irn"}


def settings_of(method: str, **values: Any) -> AffinitySettings:
    own = {"method": METHODS[method], "backbone": PATCHES if method == "psa" else CNN}
    return AffinitySettings.model_validate(VALUES | own | values)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """A block, red or blue, on a green ground; its mask, of whole cells of 4 pixels; its class."""
    rng = np.random.default_rng(seed)
    class_id = 1 + seed % 2
    top, left = 4 * rng.integers(1, 6, 2)
    inside = np.zeros(SIZE, bool)
    inside[top : top + 24, left : left + 32] = True
    colours = np.array([[40, 120, 60], [210, 60, 40], [60, 60, 220]])
    pixels = colours[np.where(inside, class_id, 0)] + rng.normal(0, 6, (*SIZE, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), inside, class_id


def cam_of(inside: np.ndarray, class_id: int) -> ScoreMap:
    """Highest near a corner of the block, weak at the opposite one, reaching out of it."""
    rows, columns = np.nonzero(inside)
    y, x = np.mgrid[2 : SIZE[0] : 4, 2 : SIZE[1] : 4]
    distance = np.hypot((y - rows.min() - 6) / 20, (x - columns.min() - 8) / 26)
    scores = np.clip(1.1 - distance, 0, 1)[None].astype(np.float32)
    ids = np.array([class_id], np.uint8)
    return ScoreMap(ids, scores / scores.max(), SIZE, np.ones(1, np.float32))


@dataclass
class Tracker:
    """Keeps what it is told, and ends the run after so many epochs."""

    stop_after: int = 1000
    told: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.told.append((step, dict(values)))

    def flush(self) -> None:
        if len(self.told) == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Twelve images to train on; two of val have neither an image nor a score map."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    train = []
    for seed in range(12):
        image, inside, class_id = scene(seed)
        Image.fromarray(image).save(root / f"images/{seed}.png")
        write_score_map(root / f"cams/{seed}.npz", cam_of(inside, class_id))
        train.append(Sample(str(seed), f"{seed}.png", SIZE, (class_id,)))
    unseen = tuple(Sample(f"v{index}", f"v{index}.png", SIZE, (1,)) for index in range(2))
    manifest = Manifest(("x", "y"), {"train": tuple(train), "selection": (), "val": unseen})
    machine = MachineSettings(accelerator="cpu", num_workers=0)
    fabric = make_fabric(machine, "32-true")
    return Task(manifest, root / "images", machine, 3, fabric, root, NullTracker())


@pytest.fixture
def task(data: Task, tmp_path: Path) -> Task:
    return replace(data, work=tmp_path)


def cams_of(task: Task) -> Path:
    return task.images.parent / "cams"


def mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_means_over_pairs(
    method: str, on_the_way: Callable[..., list[tuple[int, ...]]]
) -> None:
    """Every pair of cells once, with labels taken at the centres of cells."""
    torch.manual_seed(0)
    settings: Any = settings_of(method)
    model = affinity.AFFINITIES.build(settings.method, settings.backbone).eval()
    offsets = pair_offsets(3)
    images = torch.randn(2, 3, 16, 20)
    rng = np.random.default_rng(1)
    cells = rng.choice([0, 1, 2, 255], (2, 4, 5))
    labels = rng.choice([0, 1, 2, 255], (2, 16, 20))
    labels[:, 2::4, 2::4] = cells  # all that may count
    with torch.no_grad():
        batch = {"image": images, "mask": torch.from_numpy(labels)}
        found = affinity_losses(offsets, model, batch, STEP)
        output = model(images)
    if method == "irn":
        edges, field = output[0].double().sigmoid().numpy(), output[1].double().numpy()
    else:
        features = output.double().numpy()
    terms: dict[str, list[float]] = {name: [] for name in ("fg", "bg", "neg", "dp_fg", "dp_bg")}
    for b in range(2):
        for i in np.ndindex(4, 5):
            for j in np.ndindex(4, 5):
                near = np.hypot(i[0] - j[0], i[1] - j[1]) < 3
                if not i < j or not near or 255 in (cells[b, *i], cells[b, *j]):
                    continue
                if method == "irn":
                    a = 1 - max(edges[b, *cell] for cell in on_the_way(i, j))
                else:
                    a = np.exp(-np.abs(features[b, :, *i] - features[b, :, *j]).mean())
                if cells[b, *i] != cells[b, *j]:
                    terms["neg"].append(-np.log(1 - a + 1e-5))
                    continue
                kind = "fg" if cells[b, *i] else "bg"
                terms[kind].append(-np.log(a + 1e-5))
                if method == "irn":
                    wanted = np.subtract(j, i) if kind == "fg" else 0
                    apart = field[b, :, *i] - field[b, :, *j]
                    terms[f"dp_{kind}"].extend(np.abs(apart - wanted))
    expected = (mean(terms["fg"]) + mean(terms["bg"])) / 4 + mean(terms["neg"]) / 2
    assert min(len(terms[name]) for name in ("fg", "bg", "neg")) > 5
    if method == "irn":
        centres = (mean(terms["dp_fg"]) + mean(terms["dp_bg"])) / 2
        assert float(found["displacement"]) == pytest.approx(centres, rel=1e-4)
        assert float(found["affinity"]) == pytest.approx(expected, rel=1e-4)
        expected += centres
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-4)


def test_displacements_to_the_centre_are_right() -> None:
    """And shifted by a constant, and turned around, they are as right, and wrong."""
    labels = torch.zeros(1, 7, 9, dtype=torch.uint8)
    labels[0, 1:5, 2:7] = 3
    grid = torch.stack(torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij"))
    to_centre = torch.tensor([2.5, 4.0])[:, None, None] - grid
    field = torch.where(labels == 3, to_centre, 0)[None]
    offsets = pair_offsets(4)
    masks = pair_labels(labels, offsets)
    assert float(displacement_loss(field, masks, offsets)) == 0
    assert float(displacement_loss(field + 7, masks, offsets)) == pytest.approx(0, abs=1e-6)
    assert float(displacement_loss(-field, masks, offsets)) > 0.5
    assert float(displacement_loss(field.flip(1), masks, offsets)) > 0.5


def test_without_a_pair_the_loss_is_zero_and_changes_nothing() -> None:
    for method in METHODS:
        settings: Any = settings_of(method)
        model = affinity.AFFINITIES.build(settings.method, settings.backbone)
        batch = {"image": torch.randn(1, 3, 16, 16), "mask": torch.full((1, 16, 16), 255)}
        losses = affinity_losses(pair_offsets(3), model, batch, STEP)
        losses["loss"].backward()
        assert losses["loss"].item() == 0
        grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert grads and not any(grad.any() for grad in grads)


def error(score_map: ScoreMap, inside: np.ndarray) -> float:
    """The share of wrong pixels at the best threshold."""
    scores = score_map.full_scores().max(axis=0)
    return min(float(((scores > theta) != inside).mean()) for theta in np.arange(0.02, 1, 0.02))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_learned_makes_maps_of_new_images_better(
    task: Task, tmp_path: Path, method: str
) -> None:
    settings = settings_of(method, epochs=15)
    model, fitted = fit_affinity(settings, task, cams_of(task))
    losses = [row["train_loss"] for row in fitted.history]
    assert losses[-1] < 0.8 * losses[0]
    assert fitted.epoch == 14 and not model.training
    name = REFINER[method]
    save_network(model, tmp_path / "networks" / name)
    refine = Chain([REFINERS.settings(name)()], Context(affinities=tmp_path / "networks"))
    before, after = [], []
    for seed in range(50, 56):
        image, inside, class_id = scene(seed)
        found = cam_of(inside, class_id)
        (refined,) = refine([image], [found], [str(seed)])
        before.append(error(found, inside))
        after.append(error(refined, inside))
    assert np.mean(after) < 0.3 * np.mean(before)


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_ends_in_the_same_weights(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    settings = settings_of(method)
    tracker = Tracker()
    whole, fitted = fit_affinity(
        settings,
        replace(task, work=tmp_path / "whole", tracker=tracker, prefix="mine_"),
        cams_of(task),
    )
    assert [step for step, _ in tracker.told] == [0, 1, 2, 3]
    names = {"loss"} if method == "psa" else {"loss", "affinity", "displacement"}
    assert tracker.told[0][1].keys() == {"mine_lr", *(f"mine_train_{name}" for name in names)}

    cut = replace(task, work=tmp_path / "cut", tracker=Tracker(stop_after=2))
    with pytest.raises(KeyboardInterrupt):
        fit_affinity(settings, cut, cams_of(task))
    monkeypatch.setattr(affinity, "affinity_labels", None)  # they are there already
    resumed, refitted = fit_affinity(settings, replace(cut, tracker=Tracker()), cams_of(task))
    assert refitted.history == fitted.history
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_seeds_are_of_all_training_images_and_made_once(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Any = settings_of("psa")
    made: list[int] = []

    def counted(images: Any, cams: Any, method: Any) -> Any:
        made.append(len(images))
        return affinity_labels(images, cams, method)

    monkeypatch.setattr(affinity, "affinity_labels", counted)
    folder = affinity.write_seeds(settings, task, cams_of(task))
    names = [sample.name for sample in task.manifest.splits["train"]]
    assert sorted(path.stem for path in folder.iterdir()) == sorted(names)
    for name in names[:2]:
        image = read_image(task.images / f"{name}.png")
        cam = read_score_map(cams_of(task) / f"{name}.npz")
        (expected,) = affinity_labels([image], [cam], settings.method)
        np.testing.assert_array_equal(read_label_png(folder / f"{name}.png"), expected)
        assert {0, int(cam.class_ids[0])} <= set(np.unique(expected).tolist())
    (folder / "3.png").unlink()
    affinity.write_seeds(settings, task, cams_of(task))
    assert made == [12, 1]


def test_without_tags_there_is_nothing_to_learn(task: Task) -> None:
    train = tuple(replace(sample, class_ids=()) for sample in task.manifest.splits["train"])
    manifest = replace(task.manifest, splits=task.manifest.splits | {"train": train})
    with pytest.raises(ValueError, match="no training image has a tag"):
        fit_affinity(settings_of("psa"), replace(task, manifest=manifest), cams_of(task))
    assert not (task.work / ".work.seeds").exists()
