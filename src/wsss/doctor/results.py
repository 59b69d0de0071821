"""All that is wrong with what a project's stages have made, and whether a classifier goes by the
objects."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from wsss.config.params import Params
from wsss.doctor.erasing import survives_erasing
from wsss.pipeline.in_order import outdated
from wsss.stages import find_stages
from wsss.stages.findings.results import ResultCheck, look_at_results

__all__ = ["ResultCheck", "check_results"]


def check_results(
    root: Path,
    params: Params,
    targets: Sequence[str] = (),
    *,
    images: int = 400,
    erase: int = 8,
) -> ResultCheck:
    """Look at what the stages of a project have made.

    Masks of annotators are not opened: what they tell is in the reports of evaluation. Results of
    other settings are looked at, too, and named as such.

    Args:
        root: the project.
        params: its settings.
        targets: names of stages, such as "refine_cams" or "refine_cams@crf"; none are all.
        images: at most so many files of each kind are read, evenly spread over all.
        erase: images of each class from which the object is erased, where there are proposals; 0
            erases none.

    Raises:
        ValueError: there is no such stage.
    """
    pipeline, further = find_stages(), (partial(survives_erasing, number=erase),)
    found = look_at_results(root, params, pipeline, targets, images=images, further=further)
    there = [target for target in pipeline.targets(params) if target.name in found.looked_at]
    return replace(found, outdated=outdated(pipeline, there, params, root))
