"""`wsss verify`: whether a run scores what runs of its recipe are known to score."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wsss.verify import Verdict

__all__ = ["verify"]

WORDS = {"on": "on the road", "off": "OFF THE ROAD"}
UNKNOWN = 3
"""The exit code where nothing is off, and something could not be judged."""


def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="Run the recipe several times, and write into it what they score."
        ),
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --record: of this recipe; or that of params.yaml."),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=1, help="With --record: how many, each with another rng_seed.")
    ] = 5,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="With --record: differs from the recipe, such as a smaller size.",
        ),
    ] = None,
    finished: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="With --record: a project in which a run is finished, in place of a new run; may "
            "be repeated, that with the recipe's rng_seed first.",
        ),
    ] = None,
) -> None:
    """Compare the results here with what their recipe states, stage by stage.

    The first part of the road that is off is named: data, classifier, maps, refinement, pseudo
    masks, segmenter. The exit code is 0 where all are on the road, 1 where one is off, and 3 where
    none is, but some could not be compared.
    """
    from wsss.config.params import load_params
    from wsss.progress import show_log
    from wsss.stages import find_stages
    from wsss.stopping import stop_on_signals

    root, pipeline = Path(), find_stages()
    params = load_params("params.yaml")
    if not record and (recipe or settings or finished):
        raise ValueError("--recipe, --set and --from go with --record")
    if record:
        show_log()
        stop_on_signals()
        _record(root, recipe or params.base.recipe, runs, settings or (), finished or ())
        return
    from wsss.verify import verify as compare

    verdict = compare(root, params, pipeline, _stale(root, params, pipeline))
    if as_json:
        values = dataclasses.asdict(verdict) | {
            "expected": verdict.expected.model_dump(mode="json"),
            "first_off": verdict.first_off.name if verdict.first_off else None,
        }
        typer.echo(json.dumps(values, indent=2))
    else:
        _print(verdict)
    if verdict.first_off:
        raise typer.Exit(1)
    if not verdict.is_whole:
        raise typer.Exit(UNKNOWN)


def _record(root: Path, name: str, runs: int, settings: Any, finished: Any) -> None:
    from wsss.config.recipes import Recipe, parse_settings
    from wsss.stages import find_stages
    from wsss.verify import write_expected
    from wsss.verify.expected import expected_params
    from wsss.verify.recording import check_finished, record_runs, values_of

    changed = parse_settings(settings)
    if finished:
        for folder in finished:
            if not (folder / "reports").is_dir() or not (folder / "params.yaml").is_file():
                raise ValueError(
                    f"--from {folder} has no reports/ and params.yaml; name a project that has run"
                )
        params = expected_params(root, Recipe.read(root / "recipes", name), changed)
        pipeline = find_stages()
        check_finished(
            pipeline, params, finished, lambda folder, own: _stale(folder, own, pipeline)
        )
        expected = values_of(pipeline, params, finished, changed)
    else:
        expected = record_runs(root, name, find_stages(), runs, changed)
    scored = "1 run scores" if expected.runs == 1 else f"{expected.runs} runs score"
    print(f"wrote what {scored} into {write_expected(root, name, expected)}")


def _stale(root: Path, params: Any, pipeline: Any) -> set[str]:
    """Stages whose results neither `wsss run` nor DVC knows to be of what is there."""
    from wsss.cli.run import made_by_dvc
    from wsss.pipeline.in_order import is_there

    targets = pipeline.targets(params)
    made = made_by_dvc(root, [target.name for target in targets])
    return {
        target.name
        for target in targets
        if not is_there(pipeline, target, params, root, lambda: made)
    }


def _print(verdict: "Verdict") -> None:
    expected = verdict.expected
    differs = ", ".join(f"{key}={value}" for key, value in expected.set.items())
    print(
        f"Recipe {verdict.recipe}{f' with {differs}' * bool(differs)}: {expected.runs} "
        f"run{'s' * (expected.runs > 1)}, {expected.measured_with}"
    )
    for note in verdict.notes:
        print(f"note: {note}")
    for part in verdict.parts:
        print(f"{part.name}: {WORDS.get(part.state, part.state)}{f': {part.why}' * bool(part.why)}")
        for score in part.scores if part.name != "data" else ():
            value = "none" if score.value is None else f"{score.value:.4f}"
            known = f"{score.mean:.4f}"
            if score.allowed is not None:
                known += f" ± {score.allowed:.4f}"
            print(f"  {score.name} {value}, known {known}")
    if off := verdict.first_off:
        print(f"The run left the road at the {off.name}: {off.why}.\nLook at {off.look_at}.")
    elif verdict.is_whole:
        print("The run is where runs of this recipe are.")
    else:
        print("Nothing is off of what could be judged.")
