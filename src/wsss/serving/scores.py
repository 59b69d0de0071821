"""The scores of the segmenter that is there, and where it comes from; nothing of another one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.artifacts import Paths, read_json, report_splits
from wsss.commands import has_dvc, init_options, or_pull, run_command
from wsss.pipeline.lock import folder_md5, workspace

__all__ = ["Scored", "scored_segmenter"]

EVALUATION = "evaluate_segmenter"
_SEGMENTER = "models/segmenter"


@dataclass(frozen=True)
class Scored:
    """What is known of models/segmenter.

    Attributes:
        report: of evaluate_segmenter, on the masks that this very model predicted.
        upstream: by path, DVC's hash of all that training and evaluation read.
    """

    report: dict[str, Any]
    upstream: dict[str, str]

    @property
    def splits(self) -> list[str]:
        """The splits that were scored."""
        return [split for split in report_splits(self.report) if "mean_iou" in self.report[split]]


def scored_segmenter(root: Path) -> Scored:
    """Read the scores of the project's segmenter.

    dvc.lock says what was scored: the report, the settings, code and data, and the files of the
    model itself have to be those.

    Args:
        root: the project.

    Raises:
        ValueError: there is no segmenter, or its scores are not there or of another one; the text
            has the command that mends it.
    """
    paths = Paths(root)
    if not (paths.segmenter / "model.json").exists():
        raise ValueError(
            f"there is no segmenter in {paths.segmenter}; `{run_command(root, EVALUATION)}` trains "
            f"and scores one{or_pull(root)}"
        )
    file = paths.report(EVALUATION)
    if not file.exists():
        raise _stale(f"the segmenter was not scored: {file} is not there", root)
    now = workspace(root)
    reason = now.strangers().get(EVALUATION)
    if reason:
        raise _stale(f"{file} is not of the segmenter that is there: {reason}", root)
    predicted = now.dependencies("predict_masks")
    if predicted.get(_SEGMENTER) != folder_md5(paths.segmenter):
        raise _stale(
            f"{file} is not of the segmenter that is there: {paths.segmenter} is another than "
            "predict_masks has read",
            root,
        )
    upstream = {
        path: md5
        for stage in ("train_segmenter", EVALUATION)
        for path, md5 in now.dependencies(stage).items()
        if md5 and path.startswith(("data/", "models/"))
    }
    return Scored(read_json(file), upstream)


def _stale(text: str, root: Path) -> ValueError:
    # what `wsss run` has made is told to DVC, whose dvc.lock alone is asked
    init = " ".join(("dvc init", *init_options(root)))
    known = "" if has_dvc(root) else f", `{init}` and `dvc commit --force`"
    return ValueError(f"{text}; run `{run_command(root, EVALUATION)}`{known}")
