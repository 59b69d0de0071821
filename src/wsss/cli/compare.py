"""`wsss compare`: metrics of revisions, experiments and MLflow runs side by side."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from wsss.checks import did_you_mean
from wsss.cli.compared import default_revisions, load
from wsss.cli.compared_page import write_comparison
from wsss.cli.side_by_side import markdown, print_side_by_side

__all__ = ["compare", "select"]

_HEADLINE = re.compile(
    r"(^|^evaluate_\w+/)((?!train/|selection/|strict/)[a-z]\w*/"
    r"(mean_iou[^/]*|false_alarms/(images|area)|objects/hit_from_medium)|threshold)$"
    r"|^\w+\.\w+_mean_iou\w*$"
)
_WITHOUT_MASKS = re.compile(
    r"^prepare_data/splits/\w+/(images|with_mask)$|^train_\w+/(selection|val)_\w+$"
    r"|^train_classifier/\w+_map$|coverage$"
)


def compare(
    revs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REV...",
            help="workspace, a git revision, a DVC experiment, an MLflow run id, "
            'mlflow:RUN_NAME_PREFIX or "mlflow:FILTER", recipe:NAME, study:NAME or '
            "study:NAME/ROW. Default: HEAD workspace.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Only metrics that begin so, with or without the report's name."),
    ] = None,
    all_metrics: Annotated[bool, typer.Option("--all", help="Every metric.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page there, with means and spreads over seeds."),
    ] = None,
) -> None:
    """Print metrics of DVC revisions, experiments or MLflow runs side by side, the best in bold.

    Without --metric or --all these are the mean IoU and false alarms on val and scored
    sets, and the thresholds.
    """
    root = Path()
    loaded = load(revs or default_revisions(root), root)
    columns, notes = loaded.columns, loaded.notes
    keys = _ordered({key for values in columns.values() for key in values})
    shown = select(keys, metric or [], all_metrics)
    if not shown and metric:
        raise ValueError(
            f"none of the {len(keys)} metrics of {', '.join(columns)} begins with "
            f"{' or '.join(metric)}; {did_you_mean(metric[0], keys)}"
        )
    scored = metric or all_metrics or any(re.search(r"val[/_]mean_iou", key) for key in shown)
    if not scored:  # no masks, or not so far yet
        shown = [key for key in keys if key in shown or _WITHOUT_MASKS.search(key)] or keys
        notes.append("There is no mean IoU on val: no evaluation of images with masks is there.")
    rows = {key: [values.get(key) for values in columns.values()] for key in shown}
    if as_json:
        print(json.dumps({"columns": list(columns), "metrics": rows}, indent=2, ensure_ascii=False))
    elif as_markdown:
        print(markdown(list(columns), rows))
    else:
        print_side_by_side(list(columns), rows)
    for note in notes:
        typer.echo(note, err=True)
    if html is not None:
        write_comparison(html, loaded, root)
        typer.echo(f"wrote {html}", err=True)


def select(keys: Iterable[str], prefixes: Sequence[str], everything: bool = False) -> list[str]:
    """The metrics to show.

    Example:
        >>> keys = ["evaluate_cams/oracle/threshold", "evaluate_cams/val/mean_iou"]
        >>> select(keys, [])
        ['evaluate_cams/val/mean_iou']
        >>> select(keys, ["oracle/"])
        ['evaluate_cams/oracle/threshold']
    """
    if everything:
        return list(keys)
    if not prefixes:
        return [key for key in keys if _HEADLINE.search(key)]
    start = tuple(prefixes)
    return [key for key in keys if key.startswith(start) or key.partition("/")[2].startswith(start)]


def _ordered(keys: Iterable[str]) -> list[str]:
    """In the pipeline's order, then by name."""

    from wsss.stages import find_stages

    names = [stage.name for stage in find_stages()]

    def place(key: str) -> tuple[int, str]:
        found = (index for index, name in enumerate(names) if key.startswith(name))
        return next(found, len(names)), key

    return sorted(keys, key=place)
