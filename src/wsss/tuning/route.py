"""What a trial runs: the stages that its settings have an effect on, up to the score.

All else is taken from the project. What trials may share, as few settings decide it, is kept for
the others; the rest lies in the trial's own folder.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, Paths, Sample, contents, fingerprint, read_json
from wsss.checks import ConfigError, did_you_mean
from wsss.commands import run_command
from wsss.config.params import Params
from wsss.pipeline import Pipeline, Target
from wsss.pipeline.apart import link_made, run_apart
from wsss.pipeline.exclusive import hold
from wsss.pipeline.graph import plain
from wsss.pipeline.in_order import outdated
from wsss.settings import Settings
from wsss.sources import held
from wsss.stages import find_stages
from wsss.tracking import Tracker
from wsss.tuning.base import Score
from wsss.tuning.plan import Plan
from wsss.tuning.scoring_images import check_cams, narrowed, selection_samples

__all__ = ["RESULTS", "SHARED", "Route", "make_route"]

RESULTS = ".tuning/results"
"""The folder, below the project's root, of results that trials share."""

SHARED = 12
"""Results that at most so many combinations of searched values decide are kept for other trials."""


@dataclass(frozen=True)
class Route:
    """How the trials of a search are run and scored.

    Attributes:
        plan: the search.
        score: the full name of the evaluation that scores.
        touched: by searched key the targets whose own settings it changes, by full name.
        needed: all that some trial needs for its score, by full name.
    """

    plan: Plan
    score: str
    touched: Mapping[str, frozenset[str]]
    needed: Mapping[str, Target]

    @property
    def pipeline(self) -> Pipeline:
        return find_stages()

    @cached_property
    def chain(self) -> str:
        """The refine chain that alone is searched, with its score; "" where more is."""
        varied = {name for names in self.touched.values() for name in names}
        head, _, chain = self.score.partition("@")
        alone = varied & self.needed.keys() == {f"refine_cams@{chain}"}
        return chain if head == "evaluate_refined" and alone else ""

    @cached_property
    def first(self) -> int:
        """The place of the first refiner of `chain` that is searched."""
        own = f"refine.chains.{self.chain}."
        places = [key.removeprefix(own).partition(".")[0] for key in self.plan.space.active]
        return min(int(place) if place.isdecimal() else 0 for place in places)

    @cached_property
    def pruned_by(self) -> str:
        """The first training that is searched, whose epochs say whether a trial goes on; or ""."""
        for target in self.pipeline.upstream(self._target(self.plan.params), self.plan.params):
            if _trains(target) and target.name in self._varying and target.stage.curve:
                return target.name
        return ""

    def check(self, paths: Paths) -> None:
        """Raise ValueError where something is missing that trials take from the project."""
        params = self.plan.params
        for out in self._taken(params):
            if (paths.root / out).exists():
                continue
            source = self.pipeline.source(out, params)
            name = source.name if source else ""
            if source is not None and not source.stage.is_idle(params):
                command = run_command(paths.root, name)
                raise ValueError(f"{out} is not there, and trials need it; run `{command}` first")
        if "data/splits" in self._linked(params):
            _, samples = self.samples(paths)
            if self.chain and "data/cams" in self._linked(params):
                check_cams(samples, paths)

    def outdated(self, paths: Paths) -> dict[str, str]:
        """Why results that trials take are not those of params.yaml, by the stage's full name."""
        project = self.plan.project
        linked = [step for step in self._steps(project) if self._is_linked(step, project)]
        return outdated(self.pipeline, linked, project, paths.root)

    def check_fresh(self, paths: Paths) -> None:
        """Raise ValueError where trials would be scored on results of other settings."""
        for name, reason in self.outdated(paths).items():
            command = run_command(paths.root, name)
            raise ValueError(
                f"trials take what {name} has made, but {reason}; run `{command}` first"
            )

    def samples(self, paths: Paths) -> tuple[Manifest, list[Sample]]:
        """The images that score; see `selection_samples`."""
        return selection_samples(self.plan.params, paths, self.plan.settings.max_images)

    def key(self, paths: Paths) -> str:
        """A hash of all that decides a score but the settings searched: trials of one key compare.

        Raises ValueError as `check` does.
        """
        self.check(paths)
        params, searched = self.plan.params, list(self.plan.space.active)
        own = self.plan.settings.model_dump(mode="json", exclude={"about", "trials"})
        fixed: dict[str, Any] = {}
        code, files = [], []
        for name, target in self.needed.items():
            if self._is_linked(target, params):
                continue
            code.append(target.stage.code_fingerprint())
            if target.entry in target.stage.entries_to_run(params):
                settings = target.settings(params)
                values = {key: plain(value) for key, value in settings.items()}
                fixed[name] = _without(values, searched)
                files += [held(file).contents for file in _files(settings.values())]
        taken = {out: contents(paths.root / out) for out in self._taken(params)}
        if taken.pop("data/masks", ""):  # of those that score alone, which can be many fewer
            _, samples = self.samples(paths)
            masks = [contents(paths.masks / str(sample.mask)) for sample in samples]
            taken["data/masks"] = fingerprint(masks)
        return fingerprint(own, fixed, taken, code, files)

    def run(
        self,
        params: Params,
        paths: Paths,
        folder: Path,
        tracker: Tracker,
        epochs: Tracker | None = None,
    ) -> Score:
        """Run and score a trial through its stages.

        Args:
            params: of the trial.
            paths: the project.
            folder: of the trial, in which nobody else works.
            tracker: gets what stages have recorded, and the panel of the last one.
            epochs: is told while it runs what `pruned_by` records; it may end the trial.

        Raises:
            ValueError: a stage says what is wrong, or the score cannot be computed.
        """
        made, _, done = self._make(params, paths, folder, epochs, self._steps(params))
        place = made[self._report]
        report = read_json(place / self._report)
        warnings: list[str] = []
        for name, told in done.items():
            stage = name.partition("@")[0]
            tracker.metrics({f"{stage}/{key}": value for key, value in told["metrics"].items()})
            warnings += [
                f"{stage}: {text}" for key, text in told["tags"].items() if key == "warnings"
            ]
        if warnings:
            tracker.tags({"warnings": "\n".join(warnings)})
        for panel in sorted((place / "reports").glob("**/panel.png")):
            if not panel.is_symlink():
                tracker.artifact(panel)
        metric = params.evaluate.select_by
        selected = report.get("selection", {})
        # what is ignored counts as missed: the best mask is not the one that says the least
        value = selected.get("strict", selected).get(metric)
        if value is None:
            raise ValueError(
                f"{metric} cannot be computed on the selection split: its masks hold none of the "
                "classes, or it is none of masks with ignored pixels; mend the masks, or set "
                "evaluate.select_by to another metric"
            )
        seconds = self._seconds(done, Paths(made["data/splits"]), params)
        return Score(float(value), report.get("threshold"), seconds)

    def differences(self) -> list[str]:
        """Say in what trials differ from params.yaml besides what is searched; nothing if nowhere.

        What was found is of those settings, and params.yaml with the best values has another score.
        """
        project, params = self.plan.project, self.plan.params
        wrong = set()
        for target in self._steps(params):
            ours = {key: plain(value) for key, value in target.settings(params).items()}
            theirs = {}
            if target.entry in target.stage.entries_to_run(project):
                theirs = {key: plain(value) for key, value in target.settings(project).items()}
            searched = list(self.plan.space.active)
            old, new = _without(theirs, searched), _without(ours, searched)
            wrong |= {key for key in new if old.get(key) != new[key] and key != "base.recipe"}
        if not wrong:
            return []
        recipe = self.plan.settings.recipe
        first = f"; `wsss recipe apply {recipe}` first gives the recipe's" if recipe else ""
        return [
            "Trials had other settings than params.yaml besides, so that its score will be another "
            f"one: {', '.join(sorted(wrong))}{first}"
        ]

    def before(self, params: Params, paths: Paths) -> Paths:
        """Make what the searched chain reads, where it is not the project's; where it lies."""
        steps = [step for step in self._steps(params) if step.name not in self._tail]
        if all(self._is_linked(step, params) for step in steps):
            return paths
        place = paths.root / RESULTS / "none"
        made, keys, _ = self._make(params, paths, place, None, steps)
        folder = paths.root / RESULTS / f"before-{fingerprint(keys)[:16]}"
        with hold(folder, "what trials start from", wait=True):
            link_made(made, folder)
        return Paths(folder)

    def _make(
        self,
        params: Params,
        paths: Paths,
        folder: Path,
        tracker: Tracker | None,
        steps: Sequence[Target],
    ) -> tuple[dict[str, Path], dict[str, str], dict[str, dict[str, Any]]]:
        """Run what is not there: by out the folder it lies below, and its hash; what was told."""
        made: dict[str, Path] = {}
        keys: dict[str, str] = {}
        done: dict[str, dict[str, Any]] = {}
        for target in steps:
            stage = target.stage
            if self._is_linked(target, params):
                for out in (*target.outs(params), stage.report_path(target.entry)):
                    if (paths.root / out).exists():
                        made[out] = paths.root
                continue
            for out in target.inputs(params):
                if out not in keys and out in made:
                    keys[out] = contents(made[out] / out)
            inputs = [(out, keys.get(out, "missing")) for out in target.inputs(params)]
            few = self._only_scores(target, params)
            samples = self.samples(Paths(made["data/splits"]))[1] if few else []
            images = [sample.name for sample in samples]
            key = fingerprint(target.name, images, target.settings(params), inputs)[:16]
            shared = self._combinations(target, params) <= SHARED
            place = (paths.root / RESULTS if shared else folder) / f"{stage.name}-{key}"
            with hold(place, target.name, wait=True):
                done[target.name] = run_apart(
                    self.pipeline,
                    target,
                    params,
                    place,
                    made,
                    narrowed=partial(narrowed, kept=frozenset(images)) if few else None,
                    tracker=tracker if target.name == self.pruned_by else None,
                )
            for out, found in done[target.name]["outs"].items():
                made[out], keys[out] = place, found
        return made, keys, done

    def _seconds(
        self, done: Mapping[str, dict[str, Any]], paths: Paths, params: Params
    ) -> float | None:
        """Seconds per image of what is searched, trainings and evaluations left out."""
        manifest, samples = self.samples(paths)
        whole = len(manifest.all_samples())
        found = 0.0
        for name, told in done.items():
            target = self.pipeline.target(name, params)
            if name not in self._varying or _trains(target) or _evaluates(target):
                continue
            few = self._only_scores(target, params)
            found += told["seconds"] / (len(samples) if few else whole)
        return found or None

    @property
    def _report(self) -> str:
        head, _, entry = self.score.partition("@")
        return self.pipeline[head].report_path(entry)

    @cached_property
    def _tail(self) -> frozenset[str]:
        return frozenset({f"refine_cams@{self.chain}", self.score})

    @cached_property
    def _varying(self) -> frozenset[str]:
        """The targets that a searched key changes, by itself or by what they read."""
        return frozenset(
            name
            for name, target in self.needed.items()
            if self._combinations(target, self._any_params(target)) > 1
        )

    def _any_params(self, target: Target) -> Params:
        """Settings with which a target runs."""
        for _, _, ends in self.plan.space.samples():
            for params in (self.plan.params, *ends):
                if target.entry in target.stage.entries_to_run(params):
                    return params
        return self.plan.params

    def _target(self, params: Params) -> Target:
        return self.pipeline.target(self.score, params)

    def _steps(self, params: Params) -> list[Target]:
        return self.pipeline.upstream(self._target(params), params)

    def _combinations(self, target: Target, params: Params) -> float:
        """How many settings a target, and what it reads, can have in this search."""
        above = {part.name for part in self.pipeline.upstream(target, params)}
        space = self.plan.space.active
        return math.prod(space[key].count for key, names in self.touched.items() if names & above)

    def _is_linked(self, target: Target, params: Params) -> bool:
        """Whether a result is taken from the project: nothing searched or set has changed it."""
        project = self.plan.project
        for part in self.pipeline.upstream(target, params):
            if any(part.name in names for names in self.touched.values()):
                return False
            if part.entry not in part.stage.entries_to_run(project):
                return False
            ours = {key: plain(value) for key, value in part.settings(params).items()}
            if ours != {key: plain(value) for key, value in part.settings(project).items()}:
                return False
        return True

    def _linked(self, params: Params) -> frozenset[str]:
        return frozenset(
            out
            for target in self._steps(params)
            if self._is_linked(target, params)
            for out in target.outs(params)
        )

    def _taken(self, params: Params) -> list[str]:
        """What trials read of the project."""
        linked = self._linked(params)
        reports = {
            target.stage.report_path(target.entry)
            for target in self._steps(params)
            if self._is_linked(target, params)
        }
        read = {
            out
            for target in self.needed.values()
            if target.entry in target.stage.entries_to_run(params)
            and not self._is_linked(target, params)
            for out in target.inputs(params)
        }
        return sorted(read & (linked | reports))

    def _only_scores(self, target: Target, params: Params) -> bool:
        """Whether nothing is trained on what a target makes: then few images will do."""
        above = [
            part.name
            for other in self._steps(params)
            if _trains(other)
            for part in self.pipeline.upstream(other, params)
        ]
        return "data/splits" in target.inputs(params) and target.name not in above


def make_route(plan: Plan) -> Route:
    """Find what a search has to run.

    Raises:
        ConfigError: a key or one of its ends is none of params.yaml, or has no effect on the score.
    """
    pipeline = find_stages()
    touched: dict[str, frozenset[str]] = {}
    known: list[Params] = []
    for key, before, ends in plan.space.samples():
        names: set[str] = set()
        for params in ends:
            names |= _changed(pipeline, before, params)
        # ends may both differ from what stands there in nothing but each other
        for params in ends[1:]:
            names |= _changed(pipeline, ends[0], params)
        touched[key] = frozenset(names)
        known += [before, *ends]
    score = plan.settings.score or _nearest(plan, touched)
    needed: dict[str, Target] = {}
    for params in known:
        try:
            target = pipeline.target(score, params)
        except ValueError as error:
            raise ConfigError(f"{plan.space.source}: score: {error}") from None
        if not _evaluates(target):
            names_of = [item.name for item in pipeline.targets(plan.params) if _evaluates(item)]
            raise ConfigError(
                f"{plan.space.source}: score is {score}, which scores nothing; "
                + did_you_mean(score, names_of)
            )
        needed |= {part.name: part for part in pipeline.upstream(target, params)}
    for key, found in touched.items():
        if not found & needed.keys() and plan.space.active[key].count > 1:
            what = f"only {', '.join(sorted(found))} depend on it" if found else "no stage has it"
            raise ConfigError(
                f"{plan.space.source}: space.{key} has no effect on {score}: {what}; leave it out, "
                "or name another score"
            )
    return Route(plan, score, touched, needed)


def _files(values: Iterable[Any]) -> Iterator[Path]:
    """The files and folders that settings name."""
    for value in values:
        if isinstance(value, Settings):
            yield from value.files()
        elif isinstance(value, tuple):
            yield from _files(value)


def _nearest(plan: Plan, touched: Mapping[str, frozenset[str]]) -> str:
    """The first evaluation that all searched keys have an effect on."""
    pipeline = find_stages()
    counting = {key: names for key, names in touched.items() if plan.space.active[key].count > 1}
    for target in pipeline.targets(plan.params):
        above = {part.name for part in pipeline.upstream(target, plan.params)}
        wanted = _evaluates(target) and not target.stage.unwanted(plan.params)
        if wanted and all(names & above for names in counting.values()):
            return target.name
    without = [key for key, names in counting.items() if not names]
    key = (without or list(counting))[0]
    why = "no stage depends on it" if without else "no evaluation depends on all that is searched"
    raise ConfigError(f"{plan.space.source}: space.{key}: {why}; leave it out, or name `score`")


def _changed(pipeline: Pipeline, before: Params, after: Params) -> set[str]:
    """The targets whose own settings differ."""
    old = {target.name: target for target in pipeline.targets(before)}
    found = set()
    for target in pipeline.targets(after):
        if target.stage.last:  # which shows whatever changes
            continue
        ours = {key: plain(value) for key, value in target.settings(after).items()}
        if target.name not in old or ours != {
            key: plain(held) for key, held in target.settings(before).items()
        }:
            found.add(target.name)
    return found


def _without(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Settings by dotted key, without what is searched below them."""
    found = dict(values)
    for own in values:
        for key in keys:
            if own == key or own.startswith(f"{key}."):
                found[own] = None
            elif key.startswith(f"{own}."):
                found[own] = _cut(found[own], key.removeprefix(f"{own}.").split("."))
    return found


def _cut(tree: Any, path: Sequence[str]) -> Any:
    head, *rest = path
    if isinstance(tree, list) and head.isdecimal() and int(head) < len(tree):
        at = int(head)
        return [*tree[:at], _cut(tree[at], rest) if rest else None, *tree[at + 1 :]]
    if isinstance(tree, dict) and head in tree:
        return {**tree, head: _cut(tree[head], rest) if rest else None}
    return tree


def _trains(target: Target) -> bool:
    return target.stage.name.startswith("train_")


def _evaluates(target: Target) -> bool:
    return target.stage.evaluates
