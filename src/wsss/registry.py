"""Names to implementations: a new method is a new file, found by importing its package.

An entry is a class (or function) that is built from one settings model. The settings
carry the name, as `name: Literal["dense_crf"] = "dense_crf"`, so that params.yaml, the
registry and the JSON schema cannot disagree.

Methods may come from outside, too: a distribution names modules that register them as entry points
of the group `wsss.methods`. They are imported when a registry is first asked, after its package.
"""

import importlib
import logging
import pkgutil
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, Union

from wsss.checks import did_you_mean
from wsss.outside import (
    Outside,
    is_half_read,
    is_ours,
    note_trouble,
    outside_modules,
    troubles,
)
from wsss.settings import Named

__all__ = [
    "AFFINITIES",
    "CAM_METHODS",
    "CLUSTERINGS",
    "DATASETS",
    "METHODS",
    "NETWORKS",
    "PARTS",
    "PIXEL_LOSSES",
    "PROPOSALS",
    "REFINERS",
    "TAG_FORMS",
    "Registry",
]

Entry = TypeVar("Entry", bound=Callable[..., Any])

log = logging.getLogger(__name__)


class Registry(Generic[Entry]):
    """The implementations of one kind, all of which live in one package.

    Args:
        kind: what an entry is called in messages, such as "refiner".
        package: the package whose modules register themselves on import.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, tuple[Entry, type[Named]]] = {}
        self._loaded = self._chosen = False

    def register(self, settings: type[Named]) -> Callable[[Entry], Entry]:
        """Decorate an implementation that is built from `settings`.

        Params.yaml knows what is in the registry's package, and in modules that distributions name
        as entry points. What any other code registers is found by its name from then on.

        Raises:
            ValueError: when it decorates: the name is taken. A cell of a notebook that runs again
                replaces its own.
        """
        name = settings.model_fields["name"].default

        def add(entry: Entry) -> Entry:
            if name in self._entries and not self._replaceable(name, settings):
                raise ValueError(f"two entries of {self.package} are named '{name}'; rename one")
            if _ADDED and self._chosen:
                raise ValueError(
                    f"the {self.kind} '{name}' is registered after params.yaml has been told which "
                    "there are; import wsss.config within functions, or name the module that "
                    "needs it at its top as an entry point of its own"
                )
            self._entries[name] = (entry, settings)
            if _ADDED:
                _ADDED[-1].append((self, name))
            return entry

        return add

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._load())

    def settings(self, name: str) -> type[Named]:
        """The settings model of one entry. Raises ValueError for an unknown name."""
        return self._find(name)[1]

    def default(self, name: str) -> Named:
        """The settings of one entry with every default. Raises ValueError for an unknown name."""
        return self.settings(name).model_validate({})

    def build(self, settings: Named, /, *args: Any, **kwargs: Any) -> Any:
        """Make the implementation that `settings` names; further arguments go to it."""
        return self._find(settings.name)[0](settings, *args, **kwargs)

    def entry(self, name: str) -> Entry:
        """The implementation of a name, not built yet. Raises ValueError for an unknown name."""
        return self._find(name)[0]

    def choice(self) -> Any:
        """The type of a params.yaml value that picks one entry by its `name`."""
        from pydantic import Field

        models = tuple(self._load()[name][1] for name in self.names())
        self._chosen = True
        return Annotated[Union[models], Field(discriminator="name")] if models[1:] else models[0]  # noqa: UP007

    def _find(self, name: str) -> tuple[Entry, type[Named]]:
        entries = self._load()
        if name not in entries:
            known = did_you_mean(name, entries)
            raise ValueError(f"no {self.kind} is named '{name}'; {known}{troubles()}")
        return entries[name]

    def _load(self) -> dict[str, tuple[Entry, type[Named]]]:
        if not self._loaded:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._loaded = True
        _import_outside()
        return self._entries

    def _replaceable(self, name: str, settings: type[Named]) -> bool:
        """Whether the entry of a name gives way to another.

        One from outside does to one of this package, which is read later if nobody has asked for
        its kind before; and a notebook's to what the same cell makes when it runs again.
        """
        there = self._entries[name][1]
        if there.__module__ == "__main__":
            return (settings.__module__, settings.__qualname__) == ("__main__", there.__qualname__)
        for outside, added in _BROUGHT.items() if is_ours(settings) else ():
            if (self, name) in added:
                reason = f"two entries of {self.package} are named '{name}'; rename one"
                log.warning(note_trouble(outside, reason))
                _take_back(added)
                return True
        return False


Added: TypeAlias = list[tuple[Registry[Any], str]]

_ADDED: list[Added] = []
"""What the modules from outside that are being imported have registered, the innermost last."""

_BROUGHT: dict[Outside, Added] = {}
"""What those have registered that were imported."""


def _take_back(added: Added) -> None:
    for registry, name in added:
        del registry._entries[name]
    added.clear()


def _import_outside() -> None:
    """Import the modules that distributions name; what is wrong with one is said, and it is left.

    What it has registered by then is taken back. One that needs settings which are being read, as
    networks need those of backbones, has its turn when the next registry is asked.
    """
    for outside in outside_modules():
        if outside in _BROUGHT or is_half_read(outside.module):
            continue
        _ADDED.append([])
        try:
            importlib.import_module(outside.module)
        except Exception as error:  # whatever code of others does
            _take_back(_ADDED[-1])
            if isinstance(error, ImportError) and is_half_read("wsss.config.sections"):
                continue
            log.warning(note_trouble(outside, f"{type(error).__name__}: {error}"))
        finally:
            added = _ADDED.pop()
        _BROUGHT[outside] = added


DATASETS: Registry[Any] = Registry("dataset", "wsss.data")
PARTS: Registry[Any] = Registry("network part", "wsss.models")
METHODS: Registry[Any] = Registry("training method", "wsss.methods")
CLUSTERINGS: Registry[Any] = Registry("clustering", "wsss.clustering")
CAM_METHODS: Registry[Any] = Registry("CAM method", "wsss.cam")
PROPOSALS: Registry[Any] = Registry("proposal source", "wsss.proposals")
REFINERS: Registry[Any] = Registry("refiner", "wsss.refine")
AFFINITIES: Registry[Any] = Registry("affinity network", "wsss.refine")
PIXEL_LOSSES: Registry[Any] = Registry("pixel loss", "wsss.segment.losses")
NETWORKS: Registry[Any] = Registry("segmentation network", "wsss.segment.networks")
TAG_FORMS: Registry[Any] = Registry("form for tags alone", "wsss.segment.forms")
