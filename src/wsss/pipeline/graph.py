"""All stages in the order in which they run, and what depends on what."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from wsss.checks import did_you_mean
from wsss.config.params import Params
from wsss.pipeline.stage import Stage, placeholders

__all__ = ["Pipeline", "Target", "plain"]


@dataclass(frozen=True)
class Target:
    """One run of a stage: the stage, and the entry of its `foreach` ("" where it has none)."""

    stage: Stage
    entry: str = ""

    @property
    def name(self) -> str:
        """As in DVC and MLflow, such as "refine_cams@crf"."""
        return self.stage.full_name(self.entry)

    @property
    def report(self) -> str:
        """The name of its report, such as "refine_cams_crf"."""
        return self.stage.report(self.entry)

    @property
    def section(self) -> str:
        """The section of params.yaml that messages name, such as "refine.chains.crf"."""
        return self.stage.section.replace("{entry}", self.entry)

    def inputs(self, params: Params) -> tuple[str, ...]:
        """The files and folders it reads, relative to the project."""
        return self.stage.inputs(params, self.entry)

    def outs(self, params: Params) -> tuple[str, ...]:
        """The folders it makes, relative to the project."""
        return self.stage.outs(params, self.entry)

    def settings(self, params: Params) -> dict[str, Any]:
        """The values it reads of params.yaml by dotted key, as models and plain values."""
        return self.stage.settings_of(params, self.entry)


class Pipeline:
    """Stages, ordered so that each comes after those whose outs it reads.

    Args:
        stages: in any order.

    Raises:
        ValueError: two have one name, or they read in a circle.
    """

    def __init__(self, stages: Iterable[Stage]) -> None:
        found = sorted(stages, key=lambda stage: stage.name)
        self._by_name = {stage.name: stage for stage in found}
        if len(self._by_name) < len(found):
            raise ValueError("two stages have the same name")
        self._depths: dict[str, int] = {}
        for stage in found:
            self._depth(stage, ())
        self.stages: tuple[Stage, ...] = tuple(
            sorted(found, key=lambda stage: (self._depths[stage.name], stage.name))
        )

    def __getitem__(self, name: str) -> Stage:
        if name not in self._by_name:
            raise ValueError(f"no stage is named '{name}'; {did_you_mean(name, self._by_name)}")
        return self._by_name[name]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def targets(self, params: Params) -> list[Target]:
        """Everything that runs with these settings, in order."""
        return [Target(stage, entry) for stage in self for entry in stage.entries_to_run(params)]

    def target(self, name: str, params: Params) -> Target:
        """Find a target by its name, such as "refine_cams@crf".

        Raises:
            ValueError: there is no such stage, or it has no such entry.
        """
        head, _, entry = name.partition("@")
        stage = self[head]
        entries = stage.entries_to_run(params)
        if entry not in entries:
            known = [stage.full_name(known) for known in entries]
            raise ValueError(f"{head} does not run as '{name}'; {did_you_mean(name, known)}")
        return Target(stage, entry)

    def source(self, path: str, params: Params) -> Target | None:
        """The target that makes a path or a report; None of what no stage makes."""
        for target in self.targets(params):
            if path in (*target.outs(params), target.stage.report_path(target.entry)):
                return target
        return None

    def upstream(self, target: Target, params: Params) -> list[Target]:
        """All that a target depends on, in order, itself last."""
        found = {target.name: target}
        waiting = [target]
        while waiting:
            at = waiting.pop()
            if at.stage.last:
                return self.targets(params)
            for path in at.inputs(params):
                source = self.source(path, params)
                if source is not None and source.name not in found:
                    found[source.name] = source
                    waiting.append(source)
        order = {stage.name: place for place, stage in enumerate(self)}
        return sorted(found.values(), key=lambda found: (order[found.stage.name], found.entry))

    def settings(self, target: Target, params: Params) -> dict[str, Any]:
        """The settings of a target and of all that it depends on, as a tree of plain values."""
        tree: dict[str, Any] = {}
        for part in self.upstream(target, params):
            for key, value in part.settings(params).items():
                *sections, last = key.split(".")
                place = tree
                for section in sections:
                    place = place.setdefault(section, {})
                place[last] = plain(value)
        return tree

    def _depth(self, stage: Stage, above: tuple[str, ...]) -> int:
        """The longest way from a stage that reads nothing."""
        if stage.name in above:
            raise ValueError(f"stages read in a circle: {', '.join((*above, stage.name))}")
        if stage.name not in self._depths:
            sources = self._readable(stage)
            depths = [self._depth(source, (*above, stage.name)) for source in sources]
            self._depths[stage.name] = 1 + max(depths, default=-1)
        return self._depths[stage.name]

    def _readable(self, stage: Stage) -> list[Stage]:
        """The stages whose outs a stage reads, whatever the names in braces stand for."""
        if stage.last:
            return [other for other in self._by_name.values() if not other.last]
        wanted = [_pattern(path) for path in stage.reads]
        return [
            other
            for other in self._by_name.values()
            if any(
                pattern.fullmatch(_one_entry(path))
                for path in (*other.makes, other.report_path(_any(other)))
                for pattern in wanted
            )
        ]


def _any(stage: Stage) -> str:
    """What stands for the entries of a stage in its paths."""
    return "{entry}" if stage.foreach else ""


def _pattern(path: str) -> re.Pattern[str]:
    """What a path of `reads` may be: entries are of the one `foreach`, settings name anything."""
    text = re.escape(_one_entry(path))
    for name in placeholders(path):
        text = text.replace(re.escape(f"{{{name}}}"), ".+")
    return re.compile(text)


def _one_entry(path: str) -> str:
    """The path with one sign for entries of a `foreach`, be it one or each of them."""
    for name in placeholders(path):
        if name == "entry" or name.startswith("*"):
            path = path.replace(f"{{{name}}}", "*")
    return path


def plain(value: Any) -> Any:
    """A setting as JSON would have it: models as mappings, tuples as lists.

    Example:
        >>> plain((1, {"a": (2,)}))
        [1, {'a': [2]}]
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(held) for held in value]
    return value
