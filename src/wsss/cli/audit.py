"""`wsss audit`: how good masks are without ground truth, from a few that a person corrects."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wsss.audit.estimate import Interval
    from wsss.audit.scoring import Comparison, Finding

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="How good masks are without ground truth: draw a few images, correct them, read the IoU.",
)

Masks = Annotated[
    Path | None,
    typer.Option(help="A folder of corrected label PNGs. Default: the project's corrections."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command("draw")
def draw_images(
    of: Annotated[
        str, typer.Option(metavar="KIND", help="predictions or pseudo_masks.")
    ] = "predictions",
    split: Annotated[str | None, typer.Option(help="Default: val, of pseudo masks train.")] = None,
    images: Annotated[int, typer.Option(help="How many to correct, in all.")] = 40,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only this class counts in the mean; may be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the audit. Default: KIND-SPLIT.")] = None,
) -> None:
    """Draw images to correct, by chance, and record with which probability each was drawn.

    They are listed in audits/NAME.txt, in the order in which to correct them. A draw that is there
    grows to --images, and keeps what it has.
    """
    from wsss.artifacts import Paths
    from wsss.audit.images import KINDS, MaskSet
    from wsss.audit.record import draw, known_draws, read_draw
    from wsss.audit.scoring import check_set
    from wsss.checks import did_you_mean
    from wsss.config.params import load_params

    kind = next((one for one in KINDS if one == of), None)
    if kind is None:
        raise ValueError(f"--of must be one of {', '.join(KINDS)}; {did_you_mean(of, KINDS)}")
    split = split or ("val" if kind == "predictions" else "train")
    name = name or f"{kind}-{split}"
    if not name.strip(".") or {*name} & {*'/\\:*?"<>|'}:
        raise ValueError(f"'{name}' cannot be the name of a file; give --name letters and digits")
    root = Path()
    masks = MaskSet.read(Paths(root), kind, split)
    before = 0
    if name in known_draws(root):
        old = read_draw(root, name)
        if (old.kind, old.split) != (kind, split):
            raise ValueError(
                f"'{name}' is an audit of {old.kind} of {old.split}; give another --name"
            )
        if class_ and {*class_} != {*old.classes}:
            raise ValueError(
                f"'{name}' was drawn for the classes {', '.join(old.classes)}; leave --class out, "
                "or give another --name"
            )
        check_set(root, old, masks)
        drawn, silent, before = old.grown(images), 0, old.number
    else:
        seed = load_params(root / "params.yaml").base.rng_seed
        drawn, silent = draw(masks, images, classes=class_ or (), name=name, rng_seed=seed)
    record, listed = drawn.write(root)
    total, new = len(drawn.names), drawn.number - before
    typer.echo(
        f"{name}: {drawn.number} of {total} images are drawn"
        + (f", {new} of them new" if before else "")
        + (f"; {masks.given} whose mask was given to learn from are no part" if masks.given else "")
    )
    if silent:
        typer.echo(
            f"{silent} of {total} masks do not say how sure their maker is, so that they all count "
            f"as sure; a rerun of the stage that makes {kind} narrows the interval"
        )
    if drawn.number < 20:
        typer.echo(f"an interval from {drawn.number} images is wide; 20 and more are usual")
    typer.echo(f"recorded in {record}, which belongs into git")
    typer.echo(f"correct the images of {listed} in that order, then run: wsss audit score")


@app.command("score")
def score_masks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Audits. Default: all.")
    ] = None,
    masks: Masks = None,
    as_json: AsJson = False,
) -> None:
    """Say how good the masks of the whole set are, and write reports/audit.json.

    Counted are the first of the drawn images, as far as all of them are corrected.
    """
    from wsss.artifacts import Paths, write_json
    from wsss.audit.record import known_draws, read_draw
    from wsss.audit.scoring import score

    root = Path()
    known = known_draws(root)
    if not known:
        raise ValueError(
            "no interval can be given, as no audit is drawn; draw images with `wsss audit draw`, "
            "and correct them"
        )
    found, reports, ended = [], [], []
    for name in names or known:
        drawn = read_draw(root, name)
        try:
            found.append(score(root, drawn, masks))
        except ValueError as error:  # one that has ended keeps no other from telling
            if names or len(known) == 1:
                raise
            entry = {"name": name, "of": drawn.kind, "split": drawn.split, "reason": str(error)}
            reports.append(entry)
            ended.append(f"{name}: no interval: {error}")
        else:
            reports.append(found[-1].report())
    entries = {
        "audits": [report for report in reports if "reason" not in report],
        "without_interval": [report for report in reports if "reason" in report],
    }
    path = Paths(root).report("audit")
    if names:  # what others have found stays
        entries = _with_others(path, entries, {*known} - {*names})
    write_json(path, entries)
    if as_json:
        typer.echo(json.dumps({"audits": reports}, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n\n".join([*("\n".join(_lines(finding)) for finding in found), *ended]))
        typer.echo(f"\nwrote {path}")


@app.command("compare")
def compare_masks(
    before: Annotated[Path, typer.Argument(help="A folder of masks, <name>.png.")],
    after: Annotated[Path, typer.Argument(help="Another folder of masks of the same images.")],
    name: Annotated[str, typer.Option(help="The audit whose corrected images tell.")],
    masks: Masks = None,
    as_json: AsJson = False,
) -> None:
    """Say whether other masks are better, on the images that were corrected once.

    Both are scored on the same images, so that the interval of the difference is narrower than
    those of the two.
    """
    from wsss.audit.record import read_draw
    from wsss.audit.scoring import compare

    found = compare(Path(), read_draw(Path(), name), before, after, masks)
    if as_json:
        typer.echo(json.dumps(found.report(), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(_compared(found, before, after)))


def _with_others(path: Path, entries: dict[str, Any], others: set[str]) -> dict[str, Any]:
    """Entries together with those of other audits that a report has."""
    from wsss.artifacts import read_json

    older = read_json(path) if path.is_file() else {}
    return {
        key: sorted(
            [*own, *(one for one in older.get(key, ()) if one.get("name") in others)],
            key=lambda one: str(one["name"]),
        )
        for key, own in entries.items()
    }


def _lines(finding: "Finding") -> Iterable[str]:
    """What is printed of an audit."""
    drawn, corrected, masks = finding.draw, finding.corrected, finding.masks
    number = len(corrected.names)
    what = f"{drawn.name}: {drawn.kind.replace('_', ' ')} of {drawn.split}"
    if finding.reason or finding.ratios is None:
        yield f"{what}: no interval: {finding.reason}"
    else:
        yield f"{what}, {number} of {len(masks.samples)} images corrected"
        yield f"  mean IoU {_text(finding.mean_iou)}, over {len(finding.class_ids)} classes"
        yield f"  from these images alone {_text(finding.plain)}"
        further = finding.next_20
        if further is not None:
            limits = f"{further.low:.3f} and {further.high:.3f}"
            yield f"  with 20 images more it would lie between about {limits}"
        elif rest := len(masks.samples) - number:
            yield f"  with the other {rest} images it would be known"
        for class_id, class_name in enumerate(masks.all_names):
            if class_name in drawn.classes:
                shown = int(finding.ratios.shown[class_id])
                found = finding.ratios.of_class(class_id)
                of_class = (
                    _text(found) if found else f"no interval: {shown} of these images show it"
                )
                yield f"  {class_name}: {of_class}"
    if corrected.beyond:
        yield (
            f"  {len(corrected.beyond)} further corrected images count as soon as "
            f"'{corrected.missing[0]}' is corrected, which was drawn before them"
        )
    if corrected.strangers:
        yield (
            f"  {corrected.strangers} corrected images of {drawn.split} were not drawn, and do not "
            "count: they were not chosen by chance"
        )
    if masks.given:
        yield f"  {masks.given} images whose mask was given to learn from are no part of the set"
    if finding.silent:
        yield f"  {finding.silent} masks do not say how sure their maker is; they count as sure"


def _compared(found: "Comparison", before: Path, after: Path) -> Iterable[str]:
    """What is printed of a comparison."""
    for folder, finding in ((before, found.before), (after, found.after)):
        mean = finding.mean_iou
        yield f"{folder}: mean IoU {_text(mean) if mean else f'unknown: {finding.reason}'}"
    gain = found.gain()
    if gain is None:
        yield f"no interval of the difference: {found.reason or 'nothing tells the spread'}"
        return
    names = found.before.masks.all_names
    says = {
        "better": f"{after} is better",
        "worse": f"{after} is worse",
        "open": "which is better stays open: the interval of the difference holds 0",
    }
    yield f"difference {_text(gain, '+')}: {says[found.verdict]}"
    for class_id in found.class_ids.tolist():
        of_class = found.gain([class_id])
        yield f"  {names[class_id]}: {_text(of_class, '+') if of_class else 'no interval'}"


def _text(found: "Interval | None", sign: str = "") -> str:
    if found is None:
        return "unknown"
    value, low, high = (format(one, f"{sign}.3f") for one in found)
    return f"{value}, between {low} and {high}"
