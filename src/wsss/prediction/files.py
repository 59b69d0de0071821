"""Where the files of a model lie, and how they are used."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.artifacts import contents, fingerprint
from wsss.config.segmentation import PredictMasksSettings
from wsss.sources import find_source, named_sources

__all__ = ["FilterFiles", "ModelFiles"]


@dataclass(frozen=True)
class FilterFiles:
    """A classifier that says which classes an image may have.

    Attributes:
        classifier: its folder.
        long_side: that images are resized to, in pixels.
        thresholds: the probability of each class that an image with it reaches, K of them.
    """

    classifier: Path
    long_side: int
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class ModelFiles:
    """All that `wsss.prediction.served.ServedModel` is made of.

    Attributes:
        segmenter: the folder that train_segmenter has written.
        class_names: K names.
        has_background: whether a pixel may show none of the classes.
        settings: of predict_masks.
        filter: leaves out classes; None leaves out none.
        proposals: settings of the source of masks, of an index of regions; None of a network.
        about: what else is known, as plain values.
    """

    segmenter: Path
    class_names: tuple[str, ...]
    has_background: bool
    settings: PredictMasksSettings
    filter: FilterFiles | None = None
    proposals: Any = None
    about: dict[str, Any] = field(default_factory=dict)

    def key(self) -> str:
        """A hash of all that masks depend on; the same wherever the files lie."""
        known = None
        if self.filter is not None:
            known = (
                contents(self.filter.classifier),
                self.filter.long_side,
                self.filter.thresholds,
            )
        # neither which splits the pipeline predicts, nor how many images run together
        settings = self.settings.model_dump(mode="json", exclude={"splits", "batch_size"})
        proposals = json.dumps(self.proposals, sort_keys=True)
        for text in named_sources(self.proposals).values():
            if (file := find_source(text)) is not None:
                proposals = proposals.replace(json.dumps(text), contents(file))
        classes = (self.class_names, self.has_background)
        return fingerprint(contents(self.segmenter), classes, settings, known, proposals)
