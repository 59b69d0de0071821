"""What a stage is: declared once, beside its `run`; all else that has to know it reads it here."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from wsss.config.params import Params
from wsss.pipeline.code import code_fingerprint, code_parts

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


def _nothing(params: Params) -> Literal["", "images", "epochs"]:
    del params
    return ""


def _never(params: Params) -> bool:
    del params
    return False


def _nothing_to_check(params: Params) -> None:
    del params


def _whole(params: Params) -> Literal["all", "scored"]:
    del params
    return "all"


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Paths are relative to the project. In them {entry} stands for the entry that runs, and a dotted
    key, such as {make_pseudo_masks.chain}, for what params.yaml has there. With a star, as in
    {*refine.chains}, a path of `reads` stands for several: one for each name of the mapping there.

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
        entry_reads: of `reads`, those that an entry with given settings depends on; None is all.
        curve: what DVC plots of the stage's curve; None where it writes none.
        picture: how panels show what it makes; None where they do not.
        devices: whether it runs on machine.devices devices, one process each.
        spread: what its work is, where tasks can do it beside one another: "images", of which each
            does a part, "epochs", which the processes of one task train together, or "" of neither.
        images: whether a table of methods needs its results on "all" images, or on those that are
            "scored" alone, which leaves out the training images.
        unwanted: whether the settings want nothing of it; then it leaves an empty folder, as a
            stage whose `entries` are none.
        check: raises ValueError where settings ask for a network that cannot be made; it is asked
            before an earlier stage trains for hours.
        last: whether it comes after all others and reads what they report: whatever lies in
            reports/ beside pictures and the records of runs. Its own report lies in what it makes.
    """

    name: str
    run: Callable[[Any], None]
    settings: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    foreach: str = ""
    entries: str = ""
    entry_reads: Callable[[Any], tuple[str, ...]] | None = None
    curve: Curve | None = None
    picture: Picture | None = None
    devices: bool = False
    spread: Callable[[Params], Literal["", "images", "epochs"]] = _nothing
    images: Callable[[Params], Literal["all", "scored"]] = _whole
    unwanted: Callable[[Params], bool] = _never
    check: Callable[[Params], None] = _nothing_to_check
    last: bool = False

    @property
    def evaluates(self) -> bool:
        """Whether it scores results against masks of annotators."""
        return "data/masks" in self.reads and not self.last

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
        if self.last:  # what lies in reports/ is what it reads
            return f"{self.makes[0]}/{self.report(entry)}.json"
        return f"reports/{self.report(entry)}.json"

    def entries_to_run(self, params: Params) -> tuple[str, ...]:
        """The names that a `foreach` stage runs for; ("",) of any other."""
        return tuple(setting_at(params, self.foreach)) if self.foreach else ("",)

    def is_idle(self, params: Params) -> bool:
        """Whether there is nothing to do, as its section names no entries or nobody wants it."""
        return self.unwanted(params) or (bool(self.entries) and not getattr(params, self.entries))

    def inputs(self, params: Params, entry: str = "") -> tuple[str, ...]:
        """`reads` with names filled in."""
        return tuple(
            _filled(path, params, entry)
            for template in self.reads
            for path in _each(template, params)
        )

    def outs(self, params: Params, entry: str = "") -> tuple[str, ...]:
        """`makes` with names filled in."""
        return tuple(_filled(path, params, entry) for path in self.makes)

    def settings_of(self, params: Params, entry: str = "") -> dict[str, Any]:
        """The values of its settings by dotted key, as models and plain values."""
        keys = (_filled(key, params, entry) for key in self.settings)
        return {key: setting_at(params, key) for key in keys}

    @property
    def code_parts(self) -> list[str]:
        """All packages and modules behind its results; see `wsss.pipeline.code.code_parts`."""
        return code_parts(self.code, self.module)

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
    """The names in braces of a path or key; of several paths with their star."""
    yield from re.findall(r"\{(\*?[\w.]+)\}", template)


def _each(template: str, params: Params) -> Iterator[str]:
    """The paths that a template with a star stands for; any other alone."""
    starred = [name for name in placeholders(template) if name.startswith("*")]
    if not starred:
        yield template
    for name in starred:  # one, as no path has two
        for own in setting_at(params, name[1:]):
            yield template.replace(f"{{{name}}}", own)


def _filled(template: str, params: Params, entry: str) -> str:
    for name in placeholders(template):
        value = entry if name == "entry" else str(setting_at(params, name))
        template = template.replace(f"{{{name}}}", value)
    return template
