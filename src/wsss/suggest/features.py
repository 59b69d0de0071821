"""What a frozen backbone sees in images, in the parts of a grid; kept, so that it goes on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsss.artifacts import Manifest, Paths, Sample, atomic_path, fingerprint, read_bytes
from wsss.commands import run_command
from wsss.config.params import Params
from wsss.config.sections import BackboneSettings

if TYPE_CHECKING:
    from wsss.models.timm_backbone import TimmBackbone

__all__ = ["FOLDER", "GRID", "Features", "features_of"]

FOLDER = ".suggest"
"""Where features are kept, below the project; it may be removed."""

GRID = 4
"""Parts of an image along each side."""

CHUNK = 256  # images in a file: what a stopped run does not make again
BATCH = 16  # images of one size


@dataclass(frozen=True)
class Features:
    """Of N images.

    Attributes:
        parts: (N, GRID * GRID, D) float16: the mean over the cells of each part of an image.
        source: the weights, in words.
        has_seen_tags: whether the backbone was trained on these very tags.
    """

    parts: np.ndarray
    source: str
    has_seen_tags: bool

    @property
    def whole(self) -> np.ndarray:
        """(N, D) float32: the mean over all parts."""
        found: np.ndarray = self.parts.mean(axis=1, dtype=np.float32)
        return found


def features_of(params: Params, paths: Paths, manifest: Manifest) -> Features:
    """Run a frozen backbone on the images of train and selection.

    The weights are those that the classifier starts from. Where it starts from random values, the
    trained classifier's are taken, which have seen the tags: what is foretold from its features is
    less independent of them.

    Args:
        params: of the project.
        paths: of the project, of which prepare_data has run.
        manifest: of its data.

    Raises:
        ValueError: there are neither pretrained weights nor a trained classifier.
    """
    settings = params.train_classifier.backbone
    has_seen = settings.weights == "none"
    if has_seen and not (paths.classifier / "model.json").exists():
        raise ValueError(
            "train_classifier.backbone.weights is 'none', and no classifier is trained yet, so "
            "there is nothing to look at images with; set it to 'hub' or a file, or run "
            f"`{run_command(paths.root, 'train_classifier')}`"
        )
    samples = [*manifest.splits["train"], *manifest.splits["selection"]]
    long_side = params.train_classifier.eval_long_side or manifest.median_side
    key = _key(settings, has_seen, paths, long_side)
    folder = paths.root / FOLDER / key
    chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
    files = [
        folder / f"{fingerprint([_row(item, paths) for item in chunk])[:16]}.npy"
        for chunk in chunks
    ]
    missing = [at for at, file in enumerate(files) if not file.exists()]
    if missing:
        backbone = _backbone(settings, has_seen, paths)
        for count, at in enumerate(missing, 1):
            what = f"features, part {count} of {len(missing)}"
            found = _run(backbone, chunks[at], paths, params, long_side, what)
            with atomic_path(files[at]) as temporary, temporary.open("wb") as file:
                np.save(file, found)
    source = "the trained classifier" if has_seen else f"weights {Path(settings.weights).name}"
    parts = np.concatenate([np.load(file, allow_pickle=False) for file in files])
    return Features(parts, f"{settings.model_name}, {source}", has_seen)


def _row(sample: Sample, paths: Paths) -> tuple[str, str]:
    """An image, and a hash of its file, which may become another one under the same name."""
    return sample.name, hashlib.sha256(read_bytes(paths.images / sample.image)).hexdigest()


def _key(settings: BackboneSettings, has_seen: bool, paths: Paths, long_side: int) -> str:
    """What features depend on besides the images, which are in the names of the files."""
    from wsss.sources import find_source, held

    weights: object = settings.weights
    if has_seen:
        weights = held(paths.classifier, paths.root).contents
    elif (place := find_source(settings.weights)) is not None:
        weights = held(place, paths.root).contents
    known = settings.model_dump(mode="json", exclude={"weights", "frozen_stages"})
    return fingerprint(known, weights, long_side, GRID)[:16]


def _backbone(settings: BackboneSettings, has_seen: bool, paths: Paths) -> "TimmBackbone":
    from wsss.models.classifier import load_classifier
    from wsss.models.timm_backbone import TimmBackbone

    found = load_classifier(paths.classifier)[0].backbone if has_seen else TimmBackbone(settings)
    return found.requires_grad_(False).eval()


def _run(
    backbone: "TimmBackbone",
    samples: Sequence[Sample],
    paths: Paths,
    params: Params,
    long_side: int,
    what: str,
) -> np.ndarray:
    """(N, GRID * GRID, D) float16 of some images, in their order."""
    import torch
    from torch.nn import functional

    from wsss.loading.devices import device_of, num_workers
    from wsss.loading.same_size import same_size_batches, with_long_side

    device = device_of(params.machine.accelerator)
    backbone = backbone.to(device)
    found = np.zeros((len(samples), GRID * GRID, backbone.num_features), np.float16)
    place = {sample.name: at for at, sample in enumerate(samples)}
    with torch.inference_mode():
        for batch, pixels in same_size_batches(
            samples,
            paths.images,
            batch_size=BATCH,
            num_workers=num_workers(params.machine),
            size_for=lambda size: with_long_side(size, long_side),
            description=what,
        ):
            maps = backbone(backbone.normalisation(pixels.to(device)))
            parts = functional.adaptive_avg_pool2d(maps.float(), GRID).flatten(2)  # (B, D, parts)
            for sample, own in zip(batch, parts.cpu().numpy(), strict=True):
                found[place[sample.name]] = own.T
    return found
