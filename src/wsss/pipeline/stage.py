"""What a stage is: declared once, beside its `run`; all else that has to know it reads it here."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from wsss.config.params import Params
from wsss.pipeline.code import code_fingerprint

__all__ = ["Curve", "Picture", "Stage", "setting_at"]


@dataclass(frozen=True)
class Picture:
    """How a panel shows what a stage makes.

    Attributes:
        heading: above the column; {entry} stands for the entry.
        kind: "scores" (.npz) or "mask" (.png).
        split: whether the files lie in a folder per split.
    """

    heading: str
    kind: Literal["scores", "mask"]
    split: bool = False


@dataclass(frozen=True)
class Curve:
    """The columns that DVC plots of reports/<stage>_curve.csv.

    Attributes:
        x: the horizontal axis.
        y: the vertical axis.
    """

    x: str
    y: str


def _whole(params: Params) -> Literal["all", "scored"]:
    del params
    return "all"


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Paths are relative to the project. In them {entry} stands for the entry that runs, and a dotted
    key, such as {make_pseudo_masks.chain}, for what params.yaml has there.

    Attributes:
        name: as in dvc.yaml, MLflow and reports/<name>.json.
        run: does the work, given a `wsss.pipeline.Job`.
        settings: dotted keys of params.yaml that results depend on.
        reads: files and folders that earlier stages made.
        makes: folders that this one makes; its report comes on top.
        code: packages and modules below src/wsss that results come from, besides those that all
            stages share.
        foreach: a dotted key of params.yaml that holds a mapping: the stage runs once per name.
        entries: a section of params.yaml whose named entries have a folder each in `makes`; where
            it is empty there is nothing to do. See `Job.make_entries`.
        curve: what DVC plots of the stage's curve; None where it writes none.
        picture: how panels show what it makes; None where they do not.
        devices: whether it runs on machine.devices devices, one process each.
        images: whether a table of methods needs its results on "all" images, or on those that are
            "scored" alone, which leaves out the training images.
    """

    name: str
    run: Callable[[Any], None]
    settings: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    foreach: str = ""
    entries: str = ""
    curve: Curve | None = None
    picture: Picture | None = None
    devices: bool = False
    images: Callable[[Params], Literal["all", "scored"]] = _whole

    @property
    def section(self) -> str:
        """Where messages say that its settings stand: its entries, or the first of its keys."""
        keys = [key for key in self.settings if not key.startswith("base.")]
        return self.entries or keys[0]

    @property
    def module(self) -> str:
        """The stage's page, such as "wsss.stages.refine_cams"."""
        return self.run.__module__

    def full_name(self, entry: str = "") -> str:
        """The name of a run, such as "refine_cams@crf"."""
        return f"{self.name}@{entry}" if entry else self.name

    def report(self, entry: str = "") -> str:
        """The name of its report below reports/, such as "evaluate_refined_crf"."""
        return f"{self.name}_{entry}" if entry else self.name

    def report_path(self, entry: str = "") -> str:
        """Where its report is, such as "reports/evaluate_refined_crf.json"."""
        return f"reports/{self.report(entry)}.json"

    def entries_to_run(self, params: Params) -> tuple[str, ...]:
        """The names that a `foreach` stage runs for; ("",) of any other."""
        return tuple(setting_at(params, self.foreach)) if self.foreach else ("",)

    def is_idle(self, params: Params) -> bool:
        """Whether there is nothing to do, as its section names no entries."""
        return bool(self.entries) and not getattr(params, self.entries)

    def inputs(self, params: Params, entry: str = "") -> tuple[str, ...]:
        """`reads` with names filled in."""
        return tuple(_filled(path, params, entry) for path in self.reads)

    def outs(self, params: Params, entry: str = "") -> tuple[str, ...]:
        """`makes` with names filled in."""
        return tuple(_filled(path, params, entry) for path in self.makes)

    def settings_of(self, params: Params, entry: str = "") -> dict[str, Any]:
        """The values of its settings by dotted key, as models and plain values."""
        keys = (_filled(key, params, entry) for key in self.settings)
        return {key: setting_at(params, key) for key in keys}

    def code_fingerprint(self) -> str:
        """A hash of the code that its results come from, Python and native."""
        return code_fingerprint(self.code, self.module)


def setting_at(params: Params, key: str) -> Any:
    """What stands at a dotted key of params.yaml.

    Example:
        >>> setting_at(Params(), "base.rng_seed")
        2024
    """
    value: Any = params
    for part in key.split("."):
        if isinstance(value, BaseModel):
            value = getattr(value, part)
        elif isinstance(value, Mapping):
            value = value[part]
        else:
            value = value[int(part)]
    return value


def placeholders(template: str) -> Iterator[str]:
    """The names in braces of a path or key."""
    yield from re.findall(r"\{([\w.]+)\}", template)


def _filled(template: str, params: Params, entry: str) -> str:
    for name in placeholders(template):
        value = entry if name == "entry" else str(setting_at(params, name))
        template = template.replace(f"{{{name}}}", value)
    return template
