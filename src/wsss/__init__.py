"""Weakly supervised semantic segmentation: from image tags to pixel masks.

In a notebook or a script:

    import wsss

    classifier = wsss.load_classifier("models/classifier")
    maps = wsss.cams(classifier, "cat.jpg", ["cat"])
    better = wsss.refine("cat.jpg", maps, "dense_crf")
    wsss.mask(better).save("cat.png")

`load_segmenter` and `predict` use a trained segmenter, `evaluate` scores masks, and docs/python.md
tells of each. Nothing heavy is imported before it is used. `wsss.refine` and `wsss.evaluate` are
packages that can be called.
"""

import importlib
import sys
from types import ModuleType

TYPE_CHECKING = False  # checkers of types know the name; to import `typing` takes longer than this
if TYPE_CHECKING:
    from typing import Any

    from wsss.api import Classifier as Classifier
    from wsss.api import Maps as Maps
    from wsss.api import Mask as Mask
    from wsss.api import Scores as Scores
    from wsss.api import cams as cams
    from wsss.api import evaluate as evaluate
    from wsss.api import load_classifier as load_classifier
    from wsss.api import load_segmenter as load_segmenter
    from wsss.api import mask as mask
    from wsss.api import predict as predict
    from wsss.api import refine as refine

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "Maps",
    "Mask",
    "Scores",
    "cams",
    "evaluate",
    "load_classifier",
    "load_segmenter",
    "mask",
    "predict",
    "refine",
]

_CALLABLE = ("evaluate", "refine")
"""What is a package, too."""


def __getattr__(name: str) -> "Any":
    if name in _CALLABLE or name == "registry":
        return importlib.import_module(f"wsss.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'wsss' has no attribute '{name}'")
    globals()[name] = value = _behind(name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _behind(name: str) -> "Any":
    """What `wsss.api` has of a name; `wsss.densecrf` alone is installed without what it needs."""
    try:
        return getattr(importlib.import_module("wsss.api"), name)
    except ModuleNotFoundError as error:
        if (error.name or "wsss").startswith("wsss"):
            raise
        raise ModuleNotFoundError(
            f"wsss.{name} needs {error.name}, which is not installed: pip install 'wsss[pipeline]'",
            name=error.name,
        ) from None


class _Callable(ModuleType):
    """A package that is called as the function of its name in `wsss.api`."""

    def __call__(self, *args: "Any", **kwargs: "Any") -> "Any":
        return self.__wrapped__(*args, **kwargs)

    @property
    def __wrapped__(
        self,
    ) -> "Any":  # by which `inspect` finds the arguments, for completion and help
        return _behind(self.__name__.rpartition(".")[2])


class _Door(ModuleType):
    """This package: the import of one within it, which sets it here, makes it one to be called."""

    def __setattr__(self, name: str, value: "Any") -> None:
        if name in _CALLABLE and type(value) is ModuleType:
            value.__class__ = _Callable
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Door
