"""What an exported file says of itself: texts by name, which every format can hold."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from wsss import __version__
from wsss.artifacts import palette

__all__ = ["Description"]

_NEEDED = ("kind", "classes", "has_background", "settings", "wsss_version")


@dataclass(frozen=True)
class Description:
    """What is known of a model in a file.

    Attributes:
        kind: a network that segments, or a classifier that gives class activation maps.
        class_names: K names.
        has_background: whether a pixel may show none of the classes.
        settings: how it predicts, of predict_masks or generate_cams: those that are in the graph,
            and those that whoever runs the file has to follow.
        network: names of the architecture and the encoder.
        recipe: that it was trained with; empty if unknown.
        scores: by split and metric; empty if unknown.
        images: of prepare_data, how files became images; empty if unknown.
        version: of wsss.
    """

    kind: Literal["segmenter", "classifier"]
    class_names: tuple[str, ...]
    has_background: bool
    settings: Mapping[str, Any]
    network: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    @property
    def palette(self) -> np.ndarray:
        """(K + 1, 3) uint8 RGB: the colours of a mask's values."""
        return palette()[: len(self.class_names) + 1]

    def texts(self) -> dict[str, str]:
        """All of it; what is no text is JSON.

        Example:
            >>> Description("segmenter", ("cat",), True, {"flip": False}).texts()["palette"]
            '[[0, 0, 0], [128, 0, 0]]'
        """
        return {
            "kind": self.kind,
            "classes": json.dumps(self.class_names, ensure_ascii=False),
            "has_background": json.dumps(self.has_background),
            "palette": json.dumps(self.palette.tolist()),
            "settings": json.dumps(self.settings, sort_keys=True),
            "network": json.dumps(self.network, sort_keys=True),
            "recipe": self.recipe,
            "scores": json.dumps(self.scores, sort_keys=True),
            "images": json.dumps(self.images, sort_keys=True),
            "wsss_version": self.version,
        }

    @classmethod
    def read(cls, texts: Mapping[str, str], source: str) -> "Description":
        """The description that gave `texts`.

        Args:
            texts: more of them do no harm.
            source: of them, for errors.

        Raises:
            ValueError: they are not of a file that `wsss export` has written.

        Example:
            >>> known = Description("segmenter", ("cat",), True, {"flip": False})
            >>> Description.read(known.texts(), "a.onnx") == known
            True
        """
        missing = [key for key in _NEEDED if key not in texts]
        if missing:
            raise ValueError(
                f"{source} does not say what it is: it has no {', '.join(missing)} among its "
                "metadata, as files of `wsss export` do; export the model with that"
            )
        try:
            return cls(
                "classifier" if texts["kind"] == "classifier" else "segmenter",
                tuple(json.loads(texts["classes"])),
                json.loads(texts["has_background"]),
                json.loads(texts["settings"]),
                json.loads(texts.get("network", "{}")),
                texts.get("recipe", ""),
                json.loads(texts.get("scores", "{}")),
                json.loads(texts.get("images", "{}")),
                texts["wsss_version"],
            )
        except json.JSONDecodeError as error:
            raise ValueError(
                f"the metadata of {source} are damaged ({error}); export the model again"
            ) from None
