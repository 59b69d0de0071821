"""The tree of params.yaml, and what its sections must have in common."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from wsss.checks import did_you_mean
from wsss.config.preparation import PrepareDataSettings
from wsss.config.sections import (
    AffinitySettings,
    BaseSettings,
    EvaluateSettings,
    FurtherCamsSettings,
    GenerateCamsSettings,
    MachineSettings,
    ProposalChoice,
    RefineSettings,
    ReportSettings,
    TrainClassifierSettings,
)
from wsss.config.segmentation import (
    PER_CLASS,
    PredictMasksSettings,
    PseudoMaskSettings,
    TrainSegmenterSettings,
)
from wsss.config.suggesting import SuggestSettings
from wsss.config.yaml_text import load_yaml, read_text
from wsss.settings import ConfigError, Settings, explain

__all__ = ["COMPLETED", "Completion", "Params", "load_params", "parse_params"]


@dataclass(frozen=True)
class Completion:
    """Where the entries of a section get what they do not name, at any depth.

    Attributes:
        source: the section that has the values.
        own: keys of an entry that have defaults of their own.
    """

    source: str
    own: tuple[str, ...]


COMPLETED = {
    "train_teachers": Completion("train_classifier", ("method", "start_from")),
    "further_cams": Completion("generate_cams", ("method",)),
    "train_affinities": Completion(
        "train_classifier", ("head", "method", "loss", "start_from", "eval_long_side")
    ),
}
"""By section with named entries, what completes these."""

# sections whose entries have a folder each, and what an entry is
_FOLDERS = {
    "train_teachers": "teacher",
    "further_cams": "source",
    "make_proposals": "source",
    "train_affinities": "network",
}
# of refiners and pseudo masks: the fields that name one or more of these entries
_NAMED_IN = (
    ("further_cams", "sources"),
    ("further_cams", "object_source"),
    ("make_proposals", "proposals"),
    ("train_affinities", "network"),
)


class Params(Settings):
    base: BaseSettings = BaseSettings()
    machine: MachineSettings = MachineSettings()
    prepare_data: PrepareDataSettings = Field(default_factory=PrepareDataSettings)
    train_teachers: dict[str, TrainClassifierSettings] = Field(default={})
    """Classifiers that train_classifier starts or learns from, by name. What one of them does
    not name is as in train_classifier, but for the method, which is then cam."""
    train_classifier: TrainClassifierSettings = Field(default_factory=TrainClassifierSettings)
    generate_cams: GenerateCamsSettings = Field(default_factory=GenerateCamsSettings)
    further_cams: dict[str, FurtherCamsSettings] = Field(default={})
    """Maps besides those of generate_cams, by name, for the refiner `fusion` and as object maps.
    What one of them does not name is as in generate_cams, but for the method, which is then cam."""
    make_proposals: dict[str, ProposalChoice] = Field(default={})
    """Sources of masks that refiners take, by name."""
    train_affinities: dict[str, AffinitySettings] = Field(default={})
    """Networks of the refiners affinity_net and irn, by name. What one of them does not name is as
    in train_classifier, but for the method, which is then psa."""
    refine: RefineSettings = Field(default_factory=RefineSettings)
    make_pseudo_masks: PseudoMaskSettings = PseudoMaskSettings()
    train_segmenter: TrainSegmenterSettings = TrainSegmenterSettings()
    predict_masks: PredictMasksSettings = PredictMasksSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()
    suggest: SuggestSettings = SuggestSettings()
    """What `wsss suggest` reckons with; no stage depends on it."""

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Check what only the data can tell: that settings name classes which it has.

        Raises:
            ConfigError: a setting names what is no class, or a group has none, or one twice.
        """
        wrong = []
        for key, names in _named_classes(self):
            wrong += [
                f"{key} names '{name}', which is no class; {did_you_mean(name, class_names)}"
                for name in names
                if name not in class_names
            ]
            if not names or len(set(names)) < len(names):
                wrong.append(f"{key} must name each of its classes once, and at least one")
        if wrong:
            more = [f"and {len(wrong) - 10} more"] if len(wrong) > 10 else []
            raise ConfigError("\n".join(wrong[:10] + more))

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Give each teacher and each source of maps the keys of its model that it does not name."""
        if not isinstance(values, dict):
            return values
        for section, rule in COMPLETED.items():
            named, shared = values.get(section), values.get(rule.source)
            if isinstance(named, dict) and isinstance(shared, dict):
                shared = {key: held for key, held in shared.items() if key not in rule.own}
                completed = {name: _merged(shared, own) for name, own in named.items()}
                values = values | {section: completed}
        return values

    @model_validator(mode="after")
    def _teachers_exist(self) -> Self:
        for name, teacher in self.train_teachers.items():
            if _wanted_teachers(teacher):
                raise ValueError(
                    f"train_teachers.{name} learns from another teacher; only train_classifier can"
                )
        for key, name in _wanted_teachers(self.train_classifier):
            _check_named(f"train_classifier.{key}", name, "train_teachers", self.train_teachers)
        return self

    @model_validator(mode="after")
    def _named_exist(self) -> Self:
        for section, what in _FOLDERS.items():
            for name in getattr(self, section):
                if not name.isidentifier():
                    raise ValueError(f"{what} '{name}' names a folder; use letters, digits and _")
                if name == "warnings":
                    raise ValueError(f"{section}.{name}: reports have that key; use another name")
        for name, source in self.further_cams.items():
            key = f"further_cams.{name}.classifier"
            _check_named(key, source.classifier, "train_teachers", self.train_teachers)
        users: dict[str, Settings] = {
            f"refine.chains.{chain}.{at}": refiner
            for chain, refiners in self.refine.chains.items()
            for at, refiner in enumerate(refiners)
        }
        users["make_pseudo_masks"] = self.make_pseudo_masks
        if self.train_segmenter.retrieval is not None:
            users["train_segmenter.retrieval"] = self.train_segmenter.retrieval
        for user, settings in users.items():
            for section, field in _NAMED_IN:
                names = getattr(settings, field, ())
                for name in [names] if isinstance(names, str) else names:
                    _check_named(f"{user}.{field}", name, section, getattr(self, section))
            wanted = getattr(type(settings), "trained_by", None)
            if wanted is None:
                continue
            network: str = getattr(settings, "network", "")
            method: Any = self.train_affinities[network].method
            if method.name != wanted:
                raise ValueError(
                    f"{user}.network names '{network}', whose method is {method.name}; name one "
                    f"whose method is {wanted}"
                )
        return self

    @model_validator(mode="after")
    def _probabilities_exist(self) -> Self:
        if self.train_segmenter.retrieval is not None and self.predict_masks.crf is not None:
            raise ValueError(
                "predict_masks.crf smooths probabilities, and train_segmenter.retrieval gives none;"
                " set one of them to null"
            )
        return self

    @model_validator(mode="after")
    def _chain_exists(self) -> Self:
        if PER_CLASS in self.refine.chains:
            raise ValueError(
                f"refine.chains has a chain '{PER_CLASS}', which is what make_pseudo_masks.chain "
                "calls the best chain of each class; give it another name"
            )
        chain = self.make_pseudo_masks.chain
        if chain != PER_CLASS and chain not in self.refine.chains:
            raise ValueError(
                f"make_pseudo_masks.chain is '{chain}', which refine.chains does not have; "
                + did_you_mean(chain, self.refine.chains)
            )
        return self


def _named_classes(tree: Any, path: str = "") -> Iterator[tuple[str, Sequence[str]]]:
    """The names that settings hold under keys that name classes, with the keys."""
    if isinstance(tree, Settings):
        fields: dict[str, Any] = {name: getattr(tree, name) for name in type(tree).model_fields}
        for name in tree.class_keys:
            held = fields.pop(name)
            groups = isinstance(held, dict) and all(isinstance(v, tuple) for v in held.values())
            if groups:
                yield from ((f"{path}{name}.{group}", names) for group, names in held.items())
            elif held and not isinstance(held, str):  # a text is a choice, such as "none"
                yield f"{path}{name}", tuple(held)
        tree = fields
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _named_classes(value, f"{path}{name}.")
    elif isinstance(tree, tuple):
        for at, value in enumerate(tree):
            yield from _named_classes(value, f"{path}{at}.")


def _merged(shared: Any, own: Any) -> Any:
    """`own` over `shared`, key by key at every depth.

    A mapping with another `name` is a choice of another implementation, and is taken as it is.
    """
    if not isinstance(shared, dict) or not isinstance(own, dict):
        return own
    if own.get("name", shared.get("name")) != shared.get("name"):
        return own
    both = {key: _merged(shared[key], own[key]) for key in shared.keys() & own.keys()}
    return shared | own | both


def _check_named(key: str, name: str, section: str, known: Collection[str]) -> None:
    """Raise ValueError if a key names an entry that a section does not have; "" names none."""
    if name and name not in known:
        hint = did_you_mean(name, known) if known else "add it there"
        raise ValueError(f"{key} names '{name}', which {section} does not have; {hint}")


def _wanted_teachers(settings: TrainClassifierSettings) -> list[tuple[str, str]]:
    """The key that names a teacher, and the name."""
    method: Any = settings.method
    found = [("method.teachers", name) for name in getattr(method, "teachers", ())]
    return found + ([("start_from", settings.start_from)] if settings.start_from else [])


def parse_params(values: Any, source: str = "params.yaml") -> Params:
    """Validate a tree of plain values. Raises ConfigError with one line per mistake."""
    if not isinstance(values, dict):
        what = "empty" if values is None else f"a {type(values).__name__}"
        raise ConfigError(f"{source}: the top level must be sections, but is {what}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise explain(error, source, Params, values) from None


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and validate params.yaml.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not fit; the text names every
            key at fault and the way out.
    """
    path = Path(path)
    return parse_params(load_yaml(read_text(path), path.name), path.name)
