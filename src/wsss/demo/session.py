"""An image on the way from tags to a mask, of which a move makes anew only what it changes."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from wsss.api import Classifier, Maps, Mask, OneImage, cams, predict
from wsss.api.choices import tag_ids
from wsss.api.pictures import picture_list
from wsss.api.refining import chain_of, context_in
from wsss.artifacts import ScoreMap
from wsss.cam.making import FOUND
from wsss.checks import naming
from wsss.config.segmentation import PseudoMaskSettings
from wsss.demo.sources import Sources
from wsss.prediction.opening import machine_of
from wsss.refine import Chain
from wsss.segment.pseudo_masks import pseudo_mask
from wsss.settings import Named

__all__ = ["Session", "Shown"]

NAME = "image"  # that its proposals have


@dataclass(frozen=True)
class Shown:
    """What there is to see of an image.

    Attributes:
        maps: of the tags, as the classifier gives them.
        refined: the same through the chain.
        mask: of these.
        seconds: of each step that was made anew, by its name: "maps", the refiners by their places
            and names such as "0 dense_crf", "mask".
    """

    maps: Maps
    refined: Maps
    mask: Mask
    seconds: dict[str, float]


@dataclass
class _Step:
    """A refiner that has run."""

    entry: Named
    chain: Chain
    scores: ScoreMap


class Session:
    """One image, and all that was made of it.

    Args:
        sources: the models.
        image: see `wsss.OneImage`; it becomes what images of the project became.
        name: of it, where its file does not tell.

    Attributes:
        picture: the image as it is shown.
        probs: of every class, as the classifier has it, in [0, 1].

    Raises:
        ValueError: the image cannot be read, or the CAM method needs what is not there.
    """

    def __init__(self, sources: Sources, image: OneImage, name: str = "") -> None:
        self._sources = sources
        (given,), _ = picture_list([image], sources.classifier.image_settings)
        self._pixels = given.pixels()
        (shown,), _ = picture_list([self._pixels])
        self.picture = replace(shown, name=name or given.name)
        # maps may depend on one another, or take a pass each, where they come from gradients
        self._alone = sources.one_by_one
        self._maps: dict[tuple[str, ...], Maps] = {}
        everything = self._made(sources.classifier.class_names, "cam" if self._alone else None)
        self.probs = everything.probs
        self._everything = everything
        self._steps: list[_Step] = []
        self._start: tuple[str, ...] | None = None
        self._refined_maps: Maps | None = None
        self._mask: tuple[PseudoMaskSettings, Mask] | None = None
        self._predicted: Mask | None = None
        self._seconds: dict[str, float] = {}
        self._folder = TemporaryDirectory(prefix="wsss-")

    @property
    def found(self) -> tuple[str, ...]:
        """The classes that the classifier finds."""
        return tuple(name for name, prob in self.probs.items() if prob >= FOUND)

    def show(
        self, tags: Collection[str], refiners: Sequence[Named], masks: PseudoMaskSettings
    ) -> Shown:
        """Make what there is to see with these settings.

        Args:
            tags: names of the classes that the image shows.
            refiners: of the chain, in order.
            masks: with a threshold that is a number.

        Raises:
            ValueError: a tag is no class, or a refiner needs what is not there; what was made
                before stays.
        """
        self._seconds = {}
        class_names = self._classifier.class_names
        ids = tag_ids(tuple(tags), class_names, f"image '{self.picture.name}'")
        assert ids is not None
        wanted = tuple(class_names[number - 1] for number in ids)
        maps = self._of_tags(wanted)
        refined = self._refined(wanted, maps, refiners)
        mask = self._masked(refined, masks)
        return Shown(maps, refined, mask, self._seconds)

    def predicted(self) -> Mask | None:
        """The segmenter's mask, from the image alone; None where there is no segmenter."""
        segmenter = self._sources.segmenter
        if segmenter is not None and self._predicted is None:
            self._predicted = replace(predict(segmenter, self._pixels), picture=self.picture)
        return self._predicted

    @property
    def _classifier(self) -> Classifier:
        return self._sources.classifier

    def _made(self, tags: Collection[str], method: str | None) -> Maps:
        good = () if method else self._sources.good
        found: Maps = cams(self._classifier, self._pixels, tuple(tags), method, good=good)
        return found

    def _of_tags(self, tags: tuple[str, ...]) -> Maps:
        if tags not in self._maps:
            with self._timed("maps"):
                found = self._made(tags, None) if self._alone else self._chosen(tags)
                self._maps[tags] = replace(found, picture=self.picture)
        return self._maps[tags]

    def _chosen(self, tags: tuple[str, ...]) -> Maps:
        """Of the maps of all classes those of some."""
        all_of = self._everything.scores
        at = [index for index, name in enumerate(self._everything.tags) if name in tags]
        scores = replace(
            all_of,
            class_ids=all_of.class_ids[at],
            scores=np.ascontiguousarray(all_of.scores[at]),
            class_probs=all_of.class_probs[at],
        )
        return replace(self._everything, scores=scores)

    def _refined(self, tags: tuple[str, ...], maps: Maps, refiners: Sequence[Named]) -> Maps:
        if tags != self._start:
            self._start, self._steps, self._refined_maps = tags, [], None
        same = 0
        for step, entry in zip(self._steps, refiners, strict=False):
            if step.entry != entry:
                break
            same += 1
        if self._refined_maps is not None and same == len(self._steps) == len(refiners):
            return self._refined_maps
        self._mask = self._refined_maps = None
        known, self._steps = self._steps, self._steps[:same]
        accelerator = machine_of(self._classifier.device).accelerator
        for at, entry in enumerate(refiners[same:], same):
            with naming(f"chain.{at}"), self._timed(f"{at} {entry.name}"):
                scores = self._steps[-1].scores if self._steps else maps.scores
                if at < len(known) and known[at].entry == entry:
                    chain = known[at].chain
                else:
                    project = self._classifier.project
                    context = context_in(
                        Path(self._folder.name), [entry], project, {NAME: self._pixels}, accelerator
                    )
                    chain = chain_of(
                        [entry], context, project, has_background=self._classifier.has_background
                    )
                (scores,) = chain([self._pixels], [scores], [NAME])
                self._steps.append(_Step(entry, chain, scores))
        scores = self._steps[-1].scores if self._steps else maps.scores
        self._refined_maps = replace(maps, scores=scores)
        return self._refined_maps

    def _masked(self, maps: Maps, settings: PseudoMaskSettings) -> Mask:
        if not maps.has_background:
            settings = settings.without_background()
        if self._mask is None or self._mask[0] != settings:
            assert not isinstance(settings.threshold, str)
            with self._timed("mask"):
                labels = pseudo_mask(maps.scores, settings, settings.threshold)
            used = settings.threshold if settings.background == "constant" else None
            mask = Mask(maps.picture, labels, maps.class_names, threshold=used)
            self._mask = settings, mask
        return self._mask[1]

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._seconds[step] = time.perf_counter() - begun
