"""Names to implementations: a new method is a new file, found by importing its package.

An entry is a class (or function) that is built from one settings model. The settings
carry the name, as `name: Literal["dense_crf"] = "dense_crf"`, so that params.yaml, the
registry and the JSON schema cannot disagree.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar, Union

from wsss.checks import did_you_mean
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
    "SEARCHES",
    "TAG_FORMS",
    "Registry",
]

Entry = TypeVar("Entry", bound=Callable[..., Any])


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
        self._loaded = False

    def register(self, settings: type[Named]) -> Callable[[Entry], Entry]:
        """Decorate an implementation that is built from `settings`."""
        name = settings.model_fields["name"].default

        def add(entry: Entry) -> Entry:
            if name in self._entries:
                raise ValueError(f"two entries of {self.package} are named '{name}'; rename one")
            self._entries[name] = (entry, settings)
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

    def choice(self) -> Any:
        """The type of a params.yaml value that picks one entry by its `name`."""
        from pydantic import Field

        models = tuple(self._load()[name][1] for name in self.names())
        return Annotated[Union[models], Field(discriminator="name")] if models[1:] else models[0]  # noqa: UP007

    def _find(self, name: str) -> tuple[Entry, type[Named]]:
        entries = self._load()
        if name not in entries:
            raise ValueError(f"no {self.kind} is named '{name}'; {did_you_mean(name, entries)}")
        return entries[name]

    def _load(self) -> dict[str, tuple[Entry, type[Named]]]:
        if not self._loaded:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._loaded = True
        return self._entries


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
SEARCHES: Registry[Any] = Registry("search", "wsss.tuning")
