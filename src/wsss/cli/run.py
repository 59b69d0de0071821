"""`wsss run`: the stages in order, for whoever does not want DVC."""

from collections.abc import Collection
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import typer

from wsss.cli import completion

__all__ = ["made_by_dvc", "run"]


def run(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STAGE]...",
            help="With all that they need; without any, all.",
            autocompletion=completion.stages,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run what is up to date, too.")] = False,
    commit: Annotated[
        bool, typer.Option("--commit", help="Run nothing: take results that are there for new.")
    ] = False,
) -> None:
    """Run the stages in order, in one process; those whose results are there are skipped.

    Files, reports and MLflow's runs are those of `dvc repro`; `dvc commit` takes them over. What
    `dvc repro` has made is not made again. `--commit` is `dvc commit --force` of a project without
    DVC: what changed meanwhile is known to leave results as they are.
    """
    from wsss.config.params import load_params
    from wsss.launch import read_site
    from wsss.pipeline.execute import in_plain_words
    from wsss.pipeline.in_order import commit as take_for_new
    from wsss.pipeline.in_order import is_there, run_in_order, wanted_targets
    from wsss.progress import show_log
    from wsss.runs.sync import sync_after_run
    from wsss.sources import write_listing
    from wsss.stages import find_stages
    from wsss.stopping import stop_on_signals

    show_log()
    stop_on_signals()
    root, pipeline = Path(), find_stages()
    params, site = load_params("params.yaml"), read_site(root)
    site.check_names(stage.name for stage in pipeline)
    targets = wanted_targets(pipeline, params, stages or ())
    again = " ".join(["wsss run", *(stages or ())])
    with in_plain_words("wsss run", again) as known:
        write_listing(root)
        if commit:
            there, missing = take_for_new(pipeline, targets, params, root)
            print(f"{len(there)} of {len(targets)} stages are taken for up to date")
            if missing:
                print(f"without results: {', '.join(missing)}")
            return
        names = [target.name for target in pipeline.targets(params)]
        made = cache(partial(made_by_dvc, root, names))  # it takes seconds to ask
        ran = run_in_order(pipeline, targets, params, site, known, made=made, force=force)
        others = [target for target in pipeline.targets(params) if target not in targets]
        stale = {
            target.name
            for target in others
            if not is_there(pipeline, target, params, root, made, ran)
        }
        sync_after_run(root, params, stale)
    others_done = f"; {len(targets) - len(ran)} were up to date" * (len(ran) < len(targets))
    print(f"{len(ran)} of {len(targets)} stages ran{others_done}")


def made_by_dvc(root: Path, names: Collection[str]) -> set[str]:
    """Those of the stages whose results DVC knows to be of what is there; none without DVC."""
    from wsss.pipeline.lock import changed_stages

    if not (root / "dvc.lock").exists():
        return set()
    try:
        return set(names) - changed_stages(root)
    except ValueError:
        return set()
