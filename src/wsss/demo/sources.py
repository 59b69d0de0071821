"""What the page shows is made by: a classifier, perhaps a segmenter, and what a project has."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from wsss.api import Classifier, load_classifier, load_segmenter
from wsss.api.project import Project
from wsss.api.refining import lacking
from wsss.artifacts import Manifest, read_image
from wsss.artifacts.background import usual_threshold
from wsss.config.sections import RefineSettings
from wsss.config.segmentation import PER_CLASS, PseudoMaskSettings
from wsss.prediction import Model
from wsss.prediction.package import PREDICTION
from wsss.registry import REFINERS
from wsss.settings import Named

__all__ = ["ProjectImage", "Sources", "open_sources"]

NUM_IMAGES = 200  # of a project, that the page offers
OBJECTS = "background: object"
GOOD = 50  # images of no class that a method learns from
FURTHER = ("pamr", "regions")  # refiners offered beside the default chains, where no project is


@dataclass(frozen=True)
class ProjectImage:
    """An image of the project.

    Attributes:
        split: that it is in.
        file: of the image.
        tags: that it has there.
    """

    split: str
    file: Path
    tags: tuple[str, ...]

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return read_image(self.file)


@dataclass
class Sources:
    """Models, and what their project says.

    Attributes:
        classifier: whose maps are shown.
        segmenter: whose prediction stands beside; None where there is none.
    """

    classifier: Classifier
    segmenter: Model | None = None

    @property
    def project(self) -> Project | None:
        """Of the classifier."""
        return self.classifier.project

    @cached_property
    def refine(self) -> RefineSettings:
        """Section `refine` of the project, or default chains and refiners that need nothing."""
        if self.project is not None:
            return self.project.params.refine
        usual = RefineSettings()
        further = {name: (REFINERS.default(name),) for name in FURTHER}
        return usual.model_copy(update={"chains": usual.chains | further})

    @cached_property
    def chains(self) -> dict[str, tuple[Named, ...]]:
        """Those of the chains that can run here."""
        return {name: chain for name, chain in self.refine.chains.items() if not _why(chain, self)}

    @cached_property
    def left_out(self) -> dict[str, str]:
        """What else the project has for masks, and why it cannot run here."""
        known = {name: _why(chain, self) for name, chain in self.refine.chains.items()}
        if self._known_masks.chain == PER_CLASS:
            known[PER_CLASS] = "it takes each class by scores, which only the pipeline has"
        if self._known_masks.background == "object":
            known[OBJECTS] = (
                "it takes maps of another classifier, which only the pipeline makes; masks have "
                "the constant background here, whose threshold is not among the settings found"
            )
        return {name: reason for name, reason in known.items() if reason}

    @cached_property
    def masks(self) -> PseudoMaskSettings:
        """Section make_pseudo_masks of the project, with a chain that can run here.

        The background that takes an object map becomes the constant one.

        Raises:
            ValueError: no chain can run here.
        """
        known = self._known_masks
        if not self.chains:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
            raise ValueError(
                f"none of refine.chains can run on the page; {reasons}; `wsss set "
                "'refine.chains.none=[]'` adds one that can"
            )
        chain = known.chain if known.chain in self.chains else next(iter(self.chains))
        constant = {"background": "constant", "object_source": ""}
        return known.model_copy(
            update={"chain": chain} | (constant if known.background == "object" else {})
        )

    def threshold(self, chain: str) -> float:
        """Where the mask of a chain begins: the project's own, else one that suits its end."""
        if self.project is not None and self.classifier.is_the_projects:
            return self.project.threshold(chain)
        return usual_threshold(self.chains[chain])

    @cached_property
    def one_by_one(self) -> bool:
        """Whether maps are made of the tags alone, and not of all classes at once."""
        needs: bool = self.classifier.maker(self.classifier.settings).method.needs_gradients
        return needs

    @cached_property
    def images(self) -> dict[str, ProjectImage]:
        """Images of the project by name, those of val first; at most `NUM_IMAGES`."""
        manifest = self._manifest
        if manifest is None or self.project is None:
            return {}
        found: dict[str, ProjectImage] = {}
        for split in ("val", "selection", "train"):
            for sample in manifest.splits.get(split, ()):
                tags = tuple(manifest.class_names[number - 1] for number in sample.class_ids)
                file = self.project.paths.images / sample.image
                found[sample.name] = ProjectImage(split, file, tags)
                if len(found) == NUM_IMAGES:
                    return found
        return found

    @cached_property
    def good(self) -> Sequence[np.ndarray]:
        """Images of no class to learn from, where the CAM method does."""
        manifest = self._manifest
        learns = self.classifier.maker(self.classifier.settings).learns
        if not learns or manifest is None or self.project is None:
            return ()
        empty = [sample for sample in manifest.splits["train"] if not sample.class_ids]
        return [read_image(self.project.paths.images / sample.image) for sample in empty[:GOOD]]

    @property
    def _known_masks(self) -> PseudoMaskSettings:
        return self.project.params.make_pseudo_masks if self.project else PseudoMaskSettings()

    @cached_property
    def _manifest(self) -> Manifest | None:
        if self.project is None or not (self.project.paths.splits / "classes.json").is_file():
            return None
        return Manifest.read(self.project.paths.splits)


def open_sources(place: str, device: str = "auto") -> Sources:
    """Read the classifier at a place, and the segmenter that stands beside it.

    Args:
        place: as of `wsss.load_classifier`: a project, models/classifier of one, a package with a
            classifier, or a model of MLflow.
        device: auto, cpu, cuda or mps.

    Raises:
        ValueError: there is no classifier, or a model is damaged.
    """
    classifier = load_classifier(place, device)
    beside = _segmenter_beside(place, classifier)
    return Sources(classifier, None if beside is None else load_segmenter(beside, device))


def _segmenter_beside(place: str, classifier: Classifier) -> str | Path | None:
    """Where the segmenter is that goes with a classifier; None where there is none."""
    if place.startswith(("models:/", "runs:/")) or (Path(place) / PREDICTION).is_file():
        return place
    project = classifier.project
    if project is not None and (project.paths.segmenter / "model.json").is_file():
        return project.paths.segmenter
    return None


def _why(chain: Sequence[Named], sources: Sources) -> str:
    """Why a chain cannot run here; "" where it can."""
    reasons = (lacking(entry, sources.project) for entry in chain)
    return next((reason for reason in reasons if reason), "")
