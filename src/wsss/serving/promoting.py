"""A version takes the place of the champion, once both were scored here on the same images."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, Paths, Sample, contents, read_image, read_json, write_label_png
from wsss.config.params import Params
from wsss.evaluate import Counts, Difference, image_counts, paired_differences
from wsss.evaluate.metrics import mean_iou
from wsss.loading.same_size import size_groups
from wsss.prediction.package import PREDICTION, read_package
from wsss.prediction.store import ModelStore, Wanted
from wsss.progress import track
from wsss.seeding import generator
from wsss.tracking.registered import Version

__all__ = ["Comparison", "candidate_of", "compare_with_champion", "promote"]

SPLIT = "val"


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the version that has the alias.

    Attributes:
        candidate: that may take the alias.
        champion: that has it; None where no version does.
        differences: the mean IoU, and that of each class; empty without a champion, and where no
            image can be scored. `before` is the champion.
        score: the candidate's mean IoU; NaN where no image can be scored.
        images: how many were scored.
        data: a hash of the splits that they are of.
    """

    candidate: Version
    champion: Version | None
    differences: tuple[Difference, ...]
    score: float
    images: int
    data: str

    @property
    def is_worse(self) -> bool:
        """Whether the candidate has a lower mean IoU."""
        return bool(self.differences) and self.differences[0].gain < 0

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        if self.champion is None:
            scored = f" (mean IoU {self.score:.4f} on {self.images} images of {SPLIT})"
            return (
                f"{self.candidate.label} is the first with this alias{scored * bool(self.images)}"
            )
        if not self.differences:
            return f"not compared with {self.champion.label}: no image of {SPLIT} has a mask"
        whole = self.differences[0]
        low, high = whole.interval
        kind = "better" if whole.gain > 0 else "worse" if whole.gain < 0 else "different"
        how = f"{100 * abs(whole.gain):.2f} points of mean IoU {kind} than"
        if not whole.gain:
            how = "as good as"
        chance = "" if whole.is_sure else ", which may be chance"
        interval = f"95 %: {100 * low:+.2f} to {100 * high:+.2f}"
        if math.isnan(low):
            interval = "too few for an interval"
        return (
            f"{self.candidate.label} is {how} {self.champion.label} on {self.images} images of "
            f"{SPLIT} ({interval}){chance}"
        )


def compare_with_champion(
    root: Path, params: Params, candidate: Version, alias: str, *, unscored: bool = False
) -> Comparison:
    """Score a version and the one that has the alias on the project's val images.

    Args:
        root: the project, whose images and masks are used.
        params: its settings.
        candidate: the version.
        alias: that it may take.
        unscored: without a mask give no differences, in place of an error.

    Raises:
        ValueError: a version has other classes than the project, is damaged, or no image of val
            has a mask.
        ConnectionError: MLflow cannot be asked.
    """
    store, paths = ModelStore(root), Paths(root)
    manifest = Manifest.read(paths.splits)
    known = store.versions(candidate.name)
    champion = next((version for version in known if alias in version.aliases), None)
    samples = [sample for sample in manifest.splits[SPLIT] if sample.mask is not None]
    if not samples and not unscored:
        raise ValueError(
            f"no image of {SPLIT} has a mask, so that nothing says which model is better; give "
            "some masks (docs/own_data.md), or promote it unscored with --force"
        )
    data = contents(paths.splits)[:16]
    with tempfile.TemporaryDirectory(prefix="wsss-") as temporary:
        counts = []
        for version in (champion, candidate):
            if version is None:
                continue
            folder = Path(temporary, str(version.number))
            folder.mkdir()
            package = store.fetch(version, folder)
            _check_classes(version, read_json(package / PREDICTION), manifest)
            if samples:
                counts.append(_counts(version, package, params, paths, manifest, samples))
    differences: Sequence[Difference] = ()
    if len(counts) == 2:
        before, after = counts
        rng = generator(params.base.rng_seed, "promote")
        differences = paired_differences(before, after, manifest.class_names, rng)
    score = float(mean_iou(counts[-1].pooled())) if counts else float("nan")
    return Comparison(candidate, champion, tuple(differences), score, len(samples), data)


def promote(root: Path, comparison: Comparison, alias: str, *, force: bool = False) -> None:
    """Give the candidate the alias.

    Args:
        root: the project.
        comparison: of it with the champion.
        alias: that it takes.
        force: also where it is worse.

    Raises:
        ValueError: it is worse.
        ConnectionError: MLflow cannot be asked.
    """
    if comparison.is_worse and not force:
        raise ValueError(
            f"{comparison.verdict}; '{alias}' stays where it is. Promote it all the same with "
            "--force"
        )
    tags = {"promoted": comparison.verdict, "promoted.data": comparison.data}
    version = comparison.candidate
    with ModelStore(root).client() as client:
        for key, value in tags.items():
            client.set_model_version_tag(version.name, str(version.number), key, value)
        client.set_registered_model_alias(version.name, alias, str(version.number))


def candidate_of(root: Path, text: str, name: str) -> Version:
    """The version that is meant; of no text, or a name alone, the newest.

    Raises:
        ValueError: there is none.
    """
    store = ModelStore(root)
    wanted = Wanted.read(text or name)
    if wanted.alias or wanted.number:
        return store.find(wanted)
    own = store.versions(wanted.name)
    return own[-1] if own else store.find(wanted)  # which says what there is


def _check_classes(version: Version, known: dict[str, Any], manifest: Manifest) -> None:
    names, has_background = tuple(known["class_names"]), known["has_background"]
    if names != manifest.class_names:
        raise ValueError(
            f"{version.label} knows the classes {', '.join(names)}, but the data of this project "
            f"has {', '.join(manifest.class_names)}, so that it cannot be scored here; models of "
            "other classes go under another name (`wsss models register --name`)"
        )
    if has_background != manifest.has_background:
        has = ("has none", "has one")
        raise ValueError(
            f"{version.label} was trained on data whose background {has[has_background]}, and the "
            f"data of this project {has[manifest.has_background]}; models of other classes go "
            "under another name (`wsss models register --name`)"
        )


def _counts(
    version: Version,
    package: Path,
    params: Params,
    paths: Paths,
    manifest: Manifest,
    samples: Sequence[Sample],
) -> Counts:
    """Predict images with a version, and count the pixels of each."""
    from wsss.prediction.served import ServedModel

    model = ServedModel(read_package(package), params.machine)
    out = package / "predictions"
    # those that are cut into windows are decoded one at a time
    limit = model.settings.window or float("inf")
    groups = [
        part
        for group in size_groups([sample.size for sample in samples], model.settings.batch_size)
        for part in ([[at] for at in group] if max(samples[group[0]].size) > limit else [group])
    ]
    for group in track(groups, f"predict with {version.label}"):
        images = [read_image(paths.images / samples[at].image) for at in group]
        for at, found in zip(group, model.predict(images), strict=True):
            write_label_png(out / f"{samples[at].name}.png", found.mask)
    return image_counts(
        samples,
        out,
        paths.masks,
        manifest.num_fg_classes,
        has_background=manifest.has_background,
    )
