"""What a stage's `run` is given: settings, paths, a tracker, and the way to its outs."""

import csv
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    atomic_path,
    contents,
    fingerprint,
    read_json,
    write_json,
)
from wsss.checks import naming, printable
from wsss.config.params import Params
from wsss.cores import is_first, share, world_size
from wsss.launch import Part, Site, fill, is_launched
from wsss.pipeline.code import CodeLock
from wsss.pipeline.exclusive import BusyError
from wsss.pipeline.graph import Pipeline, Target
from wsss.pipeline.others import run_store
from wsss.pipeline.staging import Staging, drop_others, has_key
from wsss.settings import Settings, unread
from wsss.tracking import Tracker

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from wsss.report import PanelColumn

__all__ = ["Job"]

log = logging.getLogger(__name__)

Item = TypeVar("Item")

_ENTRY_REPORT = "report.json"
_PRECISION = ".work.precision.json"

REPORTS = "reports"
"""The folder of what stages report."""

PANEL_IMAGES = 6
"""Rows of a panel."""


@dataclass
class Job:
    """One run of a stage.

    Several processes may run it: all do the work, and rank 0 alone writes reports,
    pictures and runs: the methods here see to that.

    Attributes:
        pipeline: all stages.
        target: what runs.
        params: all settings.
        paths: of the project, or of a trial's folder.
        tracker: gets metrics, tags and files; silent in all processes but the first.
        warnings: what `warn` was told.
        site: where tasks may do the work; None has all of it done here.
        part: of the work, that this process does as a task; None does all of it.
        task_params: settings of the tasks; None is `params`.
        ahead: the folder that a later stage will run in, so that work of it can be begun; None
            where that is not known. See `to_begin`.
    """

    pipeline: Pipeline
    target: Target
    params: Params
    paths: Paths
    tracker: Tracker
    warnings: list[str] = field(default_factory=list)
    site: Site | None = None
    part: Part | None = None
    task_params: Params | None = None
    ahead: Callable[[Target], Path | None] = lambda _: None
    _stagings: list[Staging] | None = None

    @property
    def entry(self) -> str:
        """The name that a `foreach` stage runs for; "" of any other."""
        return self.target.entry

    def run(self) -> None:
        """Do the stage's work; messages name settings below its section."""
        with naming(self.target.section):
            if self._is_unwanted:
                for out in self.target.outs(self.params):
                    drop_others(self.paths.root / out, ())
                self.report({})
                if curve := self.target.stage.curve:
                    self.curve([], [curve.x, curve.y])
            else:
                if self.is_first:
                    own = self.target.settings(self.params).get(self.target.section)
                    for text in unread(own, self.target.section):
                        self.warn(f"{text}; change either")
                self.target.stage.run(self)
        for text in self.warnings:
            log.warning("%s: %s", self.target.name, text)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within the block, outs and what goes with them are made together, or none is finished.

        An out that is complete is put back into the making when a report or a run cannot be
        written, or Ctrl-C comes: DVC would delete it, and the next run goes on with it.
        """
        self._stagings = []
        try:
            yield
        except BaseException:
            for staging in self._stagings:
                staging.reopen()
            raise
        for staging in self._stagings:
            staging.settle()

    @cached_property
    def inputs(self) -> dict[str, str]:
        """By path, a hash of the contents of all that the stage reads, if it is wanted."""
        if self._is_unwanted:
            return {}
        read = self.target.inputs(self.params)
        if REPORTS in read:  # of which no folder and no record of a run counts: see .dvcignore
            told = sorted((self.paths.root / REPORTS).glob("*"))
            names = [file.name for file in told if file.is_file() and ".run." not in file.name]
            read = (*set(read).difference({REPORTS}), *(f"{REPORTS}/{name}" for name in names))
        return self._held(read)

    @cached_property
    def code(self) -> str:
        """A hash of the code that the results come from; of what wsss.lock says, where one is."""
        lock = CodeLock.read(self.paths.root)
        stage = self.target.stage
        return lock.fingerprint(stage.code_parts) if lock else stage.code_fingerprint()

    @cached_property
    def key(self) -> str:
        """A hash of all that decides the results: settings, inputs, code."""
        settings, code = self.target.settings(self.params), self.code
        if self.part is not None:  # what is read is as it was for the process that wants the part
            self.part.check(fingerprint(settings, code))
            return self.part.key
        return fingerprint(settings, self.inputs, code)

    def staging(self, made: int = 0) -> Staging:
        """The out in the making, in the order of the stage's `makes`."""
        out = self.target.outs(self.params)[made]
        checked = (self.target.settings(self.params), self.code)
        staging = Staging(
            self.paths.root / out,
            self.key,
            keep_work=self._stagings is not None,
            part=self.part,
            fill=self._fill(out, self.key, fingerprint(*checked)),
        )
        if self._stagings is not None:
            self._stagings.append(staging)
        return staging

    def make_entries(
        self,
        make: Callable[[str, Any, Path], Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Make the folder of each named entry, unless it is as it would be made now.

        Args:
            make: fills a folder, given an entry's name, its settings and the folder, in which
                work of a killed run may lie; its values become the entry's part of the report.
                What it warns of is kept with the entry, and said again where that is up to date.

        Returns:
            By name, what `make` gave; with it the report is written.
        """
        stage = self.target.stage
        folder = self.paths.root / stage.makes[0]
        if self.part is None:
            drop_others(folder, self._entries)
        report = {}
        for name, settings in self._entries.items():
            out = folder / name
            checked = fingerprint(*self._entry_checked(name))
            if self.part is None:
                key = self._entry_key(name, self.inputs)
            elif self.part.out == f"{stage.makes[0]}/{name}":
                self.part.check(checked)
                key = self.part.key
            else:  # another task's
                continue
            if self.part is not None or not has_key(out, key):
                before = len(self.warnings)
                filled = self._fill(f"{stage.makes[0]}/{name}", key, checked, name)
                # another stage may be about to have begun it
                making = Staging(out, key, keep_key=True, wait=True, part=self.part, fill=filled)
                with naming(name), making as staging:
                    values = make(name, settings, staging.path)
                    said = {"warnings": self.warnings[before:]} if self.warnings[before:] else {}
                    if self.is_first:
                        write_json(staging.path / _ENTRY_REPORT, {**values, **said})
                del self.warnings[before:]
            report[name] = read_json(out / _ENTRY_REPORT)
            for text in report[name].pop("warnings", ()):
                self.warn(f"{name}: {text}")
        self.report(report)
        return report

    def to_begin(self, stage: str, name: str) -> AbstractContextManager[Path | None] | None:
        """An entry of a later stage, to begin as some of its work can be done with this one's.

        That stage goes on with what is there, as after a kill. So nothing depends on whether it
        was begun but time.

        Args:
            stage: that has entries; it may read nothing that this stage or a later one makes.
            name: of the entry.

        Returns:
            `with` gives its folder in the making, or None while another process holds it. None
            where nothing is to be done there: it is up to date, nobody knows where the later stage
            runs, or several processes or tasks do the work.
        """
        later = replace(self, target=self.pipeline.target(stage, self.params), warnings=[])
        root = self.ahead(later.target)
        spread = later.target.stage.spread(self.params)
        launched = self.site is not None and is_launched(spread, self.site.of(stage).engine)
        if root is None or world_size() > 1 or launched:
            return None
        out = root / later.target.stage.makes[0] / name
        key = later._entry_key(name, self.inputs)
        return None if has_key(out, key) else _begun(Staging(out, key, keep_key=True, begun=True))

    def warn(self, text: str) -> None:
        """Keep what a person must know of a result that is bad though the stage succeeds.

        The report has it under "warnings", so say it before `report`; it is logged when the
        stage ends.

        Args:
            text: what is bad, with its numbers, and the setting to change.
        """
        self.warnings.append(printable(text))

    def report(self, values: Mapping[str, Any]) -> None:
        """Write reports/<stage>.json."""
        if self.is_first:
            warnings = {"warnings": self.warnings} if self.warnings else {}
            write_json(self.paths.report(self.target.report), {**values, **warnings})

    def curve(self, rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> None:
        """Write reports/<stage>_curve.csv, six digits a value; what a row lacks stays empty."""
        if not self.is_first:
            return
        name = f"{self.target.report}_curve"
        with (
            atomic_path(self.paths.report(name, ".csv")) as path,
            path.open("w", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(
                [f"{row[column]:.6g}" if column in row else "" for column in columns]
                for row in rows
            )

    def panel(self, threshold: float | None = None, *, truth: bool = False) -> None:
        """Write reports/<stage>/panel.png and record it: what the stages up to here made.

        The images are those of the val split, or the first that has any.

        Args:
            threshold: of the score maps shown last; adds a column of the classes above it.
            truth: adds the ground truth, which evaluation alone opens.
        """
        if not self.is_first:
            return
        from wsss.report import draw_panel

        columns, samples = self.panel_columns(threshold, truth=truth)
        out = self.paths.report(f"{self.target.report}/panel", ".png")
        names = Manifest.read(self.paths.splits).class_names
        draw_panel(out, self.paths.images, samples, columns, names)
        self.tracker.artifact(out)

    def panel_columns(
        self, threshold: float | None = None, *, truth: bool = False
    ) -> "tuple[list[PanelColumn], list[Sample]]":
        """The columns and rows of `panel`."""
        from wsss.report import PanelColumn, choose_samples

        manifest, root = Manifest.read(self.paths.splits), self.paths.root
        split = next((name for name in ("val", "selection", "train") if manifest.splits[name]), "")
        columns = []
        for target in self.pipeline.upstream(self.target, self.params):
            if picture := target.stage.picture:
                folder = root / target.outs(self.params)[0] / (split if picture.split else "")
                heading = picture.heading.replace("{entry}", target.entry)
                columns.append(PanelColumn(heading, picture.kind, folder))
        if threshold is not None:
            shown = columns[-1].folder
            columns.append(PanelColumn(f"above {threshold:.2f}", "scores", shown, threshold))
        if truth:
            columns.append(PanelColumn("ground truth", "ground_truth", self.paths.masks))
        return columns, choose_samples(manifest.splits[split], PANEL_IMAGES) if split else []

    def fabric(self, precision: str, folder: Path, what: str = "") -> "Fabric":
        """What the stage runs on, whose precision becomes a tag of the run.

        Args:
            precision: as in the settings.
            folder: of the work, in which tasks say what they compute in: that is the tag, then.
            what: runs there, where the stage makes several things.
        """
        from wsss.loading.devices import keep_freed_memory, make_fabric, precision_of

        fabric = make_fabric(self.params.machine, precision, run_store())
        if fabric.device.type == "cpu":
            keep_freed_memory()
        used = precision_of(fabric)
        said = folder / _PRECISION
        if self.part is not None and is_first():
            write_json(said, used)
        elif self.part is None and said.exists():
            used = read_json(said)
        self.tracker.tags({f"{what}_precision" if what else "precision": used})
        return fabric

    def rate(self, count: int, seconds: float, what: str = "") -> None:
        """Log and record how many images a second were done; nothing where none was.

        Args:
            count: images.
            seconds: that they took.
            what: whose rate it is, where the stage makes several things.
        """
        if not count:
            return
        log.info("%s%d images at %.1f images/s", f"{what}: " * bool(what), count, count / seconds)
        prefix = f"{what}_" if what else ""
        self.tracker.metrics({f"{prefix}images_per_second": count / seconds})

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """The part of the items that this process does; the others do the rest."""
        return share(items) if self.part is None else self.part.share(items)

    @property
    def _entries(self) -> Mapping[str, Settings]:
        entries: Mapping[str, Settings] = getattr(self.params, self.target.stage.entries)
        return entries

    def _entry_checked(self, name: str) -> tuple[Settings, dict[str, Any], str]:
        """What decides an entry besides what it reads: its settings, those of all, the code."""
        shared = self.target.settings(self.params)
        del shared[self.target.stage.entries]
        return self._entries[name], shared, self.code

    def _entry_key(self, name: str, known: Mapping[str, str]) -> str:
        """A hash of all that decides an entry.

        Args:
            name: of the entry.
            known: by path, hashes of what lies there; what else the entry reads is hashed.
        """
        settings, shared, code = self._entry_checked(name)
        stage, held = self.target.stage, known
        if stage.entry_reads is not None:
            paths = stage.entry_reads(settings)
            known = {**self._held([path for path in paths if path not in known]), **known}
            held = {path: known[path] for path in paths}
        return fingerprint(settings, shared, held, code)

    def _held(self, paths: Sequence[str]) -> dict[str, str]:
        return {path: contents(self.paths.root / path) for path in paths}

    @property
    def _is_unwanted(self) -> bool:
        return self.target.stage.unwanted(self.params)

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is not an out."""
        return is_first() and self.part is None

    def _fill(
        self, out: str, key: str, checked: str, entry: str = ""
    ) -> Callable[[Path], None] | None:
        """What lets tasks fill an out; None where this process does all of it."""
        kind = self.target.stage.spread(self.params)
        if self.site is None or self.part is not None or not kind:
            return None
        params = self.task_params or self.params
        part = Part(out, key, checked, kind, params.model_dump(mode="json"))
        machine = self.params.machine
        return partial(fill, self.target.name, self.paths, machine, self.site, part, entry)


@contextmanager
def _begun(staging: Staging) -> Iterator[Path | None]:
    """A folder in the making, or None while another process holds it."""
    with ExitStack() as stack:
        path = None
        with suppress(BusyError):
            path = stack.enter_context(staging).path
        yield path
