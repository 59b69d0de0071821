"""All that is wrong with what a project's stages have made, as far as its files tell."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsss.checks import did_you_mean
from wsss.config.params import Params
from wsss.pipeline import Pipeline, Target
from wsss.stages.findings.finding import SEVERITIES, Finding
from wsss.stages.findings.learning import course_of_training, splits_apart, weak_classes
from wsss.stages.findings.made import Made
from wsss.stages.findings.maps import same_place
from wsss.stages.findings.masks import (
    eaten_classes,
    ignored_share,
    mistaken_classes,
    no_background,
    one_class_alone,
)
from wsss.stages.findings.scores import better_chains, maps_beside, scores_apart, worse_segmenter
from wsss.stages.findings.warned import warned

__all__ = ["Look", "ResultCheck", "look_at_results"]

Look = Callable[[Made, Target], Iterator[Finding]]

LOOKS: tuple[Look, ...] = (
    warned,
    weak_classes,
    course_of_training,
    splits_apart,
    same_place,
    eaten_classes,
    no_background,
    ignored_share,
    one_class_alone,
    mistaken_classes,
    better_chains,
    scores_apart,
    maps_beside,
    worse_segmenter,
)
"""What is looked at of each target; a look says nothing of targets that it is not meant for."""


@dataclass(frozen=True)
class ResultCheck:
    """What is known of results.

    Attributes:
        findings: the worst first, and of one severity in the order of the stages.
        looked_at: names of the targets that have a report.
        missing: names of those that have none, as they have not run.
        outdated: by name, why results that were looked at are of other settings, data or code.
    """

    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]
    missing: tuple[str, ...]
    outdated: Mapping[str, str] = field(default_factory=dict)


def look_at_results(
    root: Path,
    params: Params,
    pipeline: Pipeline,
    targets: Sequence[str] = (),
    *,
    images: int = 400,
    further: Sequence[Look] = (),
) -> ResultCheck:
    """Look at what the stages of a project have made.

    Masks of annotators are not opened: what they tell is in the reports of evaluation.

    Args:
        root: the project.
        params: its settings.
        pipeline: all stages.
        targets: names of stages, such as "refine_cams" or "refine_cams@crf"; none are all.
        images: at most so many files of each kind are read, evenly spread over all.
        further: what is looked at besides `LOOKS`.

    Raises:
        ValueError: there is no such stage.
    """
    made = Made(root, params, pipeline, images)
    chosen = _chosen(made, targets)
    looks: tuple[Look, ...] = (*LOOKS, *further)
    there = [target for target in chosen if made.report(target.name)]
    findings = [finding for target in there for look in looks for finding in look(made, target)]
    return ResultCheck(
        tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        tuple(target.name for target in there),
        tuple(
            target.name
            for target in chosen
            if target not in there
            and not target.stage.is_idle(params)
            and not target.stage.last  # whose report is what it makes
        ),
    )


def _chosen(made: Made, names: Sequence[str]) -> list[Target]:
    """The targets of those names, in order; a stage's name stands for all its entries."""
    known = {target.name for target in made.targets} | {item.stage.name for item in made.targets}
    for name in names:
        if name not in known:
            raise ValueError(f"no stage is named '{name}'; {did_you_mean(name, known)}")
    return [
        target
        for target in made.targets
        if not names or target.name in names or target.stage.name in names
    ]
