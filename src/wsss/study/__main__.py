"""One row of a study, as a task: `python -m wsss.study NAME SIZE ROW SEED [--ignore-code]`."""

import sys
from pathlib import Path

from wsss.pipeline.execute import in_plain_words
from wsss.pipeline.processes import end_with_parent
from wsss.progress import show_log
from wsss.stopping import stop_on_signals
from wsss.study.plan import read_plan
from wsss.study.run import run_study


def main(arguments: list[str]) -> None:
    """Run one row with one seed; the table is written by whoever started all of them."""
    ignore_code = "--ignore-code" in arguments
    name, size, row, seed = (item for item in arguments if item != "--ignore-code")
    show_log()
    end_with_parent()
    stop_on_signals()
    with in_plain_words(f"the row '{row}'", f"wsss study run {name} --row {row}"):
        run_study(
            Path(),
            name,
            read_plan(Path(), name),
            size,
            rows=(row,),
            seeds=int(seed) + 1,
            seed=int(seed),
            ignore_code=ignore_code,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
