"""A study in pictures, and a page with all of them that needs no other file."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wsss.artifacts import atomic_path
from wsss.report import frame
from wsss.tuning.storage import Found
from wsss.tuning.table import LEAST, columns, importances, row, searched_keys

__all__ = ["write_page"]

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#a0aec0"


def write_page(found: Found, folder: Path) -> Path:
    """Write history.png, slices.png, importances.png and index.html, which holds all of them.

    Args:
        found: a study with scored trials. Of two objectives there is front.png, too.
        folder: is made if it is not there.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, tuple[str, Callable[[Found, Path], bool]]] = {
        "history": ("Trials in their order, and the best so far", _history),
        "front": ("Score and seconds per image", _front),
        "slices": ("Score over each setting", _slices),
        "importances": ("What decides whether a trial is among the best", _importances),
    }
    shown = []
    for name, (title, draw) in drawn.items():
        path = folder.joinpath(name).with_suffix(".png")
        if draw(found, path):
            data = frame.data_uri(path.read_bytes(), "image/png")
            text = frame.escape(title)
            shown.append(f'<h3>{text}</h3>\n<img class="drawn" alt="{text}" src="{data}">')
        else:
            path.unlink(missing_ok=True)
            if name == "importances":
                shown.append(
                    f"<p>From {LEAST} scored trials on it can be said which settings matter.</p>"
                )
    page = folder / "index.html"
    frame.write_page(page, _page(found, shown))
    return page


def _page(found: Found, shown: Sequence[str]) -> str:
    plan, trials = found.route.plan, found.trials
    keys = columns(found)
    lines = [[frame.escape(cell) for cell in row(found, trial)] for trial in trials]
    rows = [(first, [f"<td>{cell}</td>" for cell in rest]) for first, *rest in lines]
    first = (
        f"{len(trials)} trials of the study {found.name}, scored by {plan.metric} of "
        f"{found.route.score} on the selection split; the best has {trials[0].values[0]:.4f}."
    )
    about = f"<p>{frame.escape(plan.settings.about)}</p>" if plan.settings.about else ""
    table = frame.table([frame.escape(key) for key in keys], rows, about="The best first")
    return frame.page_text(
        f"Search {plan.name}",
        [
            frame.Section("pictures", "Pictures", "\n".join(shown)),
            frame.Section("trials", "Trials, the best first", table),
        ],
        top=f'<p class="lead">{frame.escape(first)}</p>\n{about}',
    )


def _history(found: Found, path: Path) -> bool:
    trials = sorted(found.trials, key=lambda trial: trial.number)
    numbers = [trial.number for trial in trials]
    values = [trial.values[0] for trial in trials]
    best = [max(values[: at + 1]) for at in range(len(values))]
    with _figure(path, 1, 1) as (axes,):
        axes.plot(numbers, values, "o", color=_GREY, markersize=4)
        axes.step(numbers, best, where="post", color=_BLUE)
        axes.set(xlabel="trial", ylabel=found.route.plan.metric)
    return True


def _front(found: Found, path: Path) -> bool:
    if len(found.study.directions) != 2:
        return False
    front = {trial.number for trial in found.study.best_trials}
    with _figure(path, 1, 1) as (axes,):
        for trial in found.trials:
            colour = _ORANGE if trial.number in front else _GREY
            axes.plot(trial.values[1], trial.values[0], "o", color=colour, markersize=4)
            if trial.number in front:
                axes.annotate(f" {trial.number}", (trial.values[1], trial.values[0]), fontsize=7)
        axes.set(xlabel="seconds per image", ylabel=found.route.plan.metric)
    return True


def _slices(found: Found, path: Path) -> bool:
    from matplotlib import ticker

    keys, space = searched_keys(found), found.route.plan.space
    across = min(3, len(keys))
    with _figure(path, math.ceil(len(keys) / across), across) as axes:
        for key, at in zip(keys, axes, strict=False):
            trials = [trial for trial in found.trials if key in trial.user_attrs["settings"]]
            values = [trial.user_attrs["settings"][key] for trial in trials]
            wanted = space.ranges[key]
            if wanted.choices:
                names = [str(choice) for choice in wanted.choices]
                values = [
                    names.index(str(value)) if str(value) in names else -1 for value in values
                ]
                short = [name if len(name) < 24 else f"{name[:22]}…" for name in names]
                at.set_xticks(range(len(names)), short, fontsize=7)
            if wanted.log:
                at.set_xscale("log")
                at.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
                at.xaxis.set_major_formatter("{x:g}")
                at.xaxis.set_minor_formatter(ticker.NullFormatter())
            scores = [trial.values[0] for trial in trials]
            at.scatter(values, scores, c=[trial.number for trial in trials], cmap="Blues", s=16,
                       edgecolors=_BLUE, linewidths=0.5)  # fmt: skip
            at.set(xlabel=key.removeprefix("refine.chains."), ylabel=found.route.plan.metric)
        for at in axes[len(keys) :]:
            at.set_visible(False)
    return True


def _importances(found: Found, path: Path) -> bool:
    weights = importances(found.study)
    if not weights:
        return False
    names = list(weights)[::-1]
    with _figure(path, 1, 1) as (axes,):
        axes.barh([name.removeprefix("refine.chains.") for name in names],
                  [weights[name] for name in names], color=_BLUE)  # fmt: skip
        axes.set(xlabel="share")
    return True


class _figure:
    """Axes of a picture that is written at the end of the block."""

    def __init__(self, path: Path, down: int, across: int) -> None:
        self.path, self.down, self.across = path, down, across

    def __enter__(self) -> Sequence[Any]:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        size = (4 * self.across, 2.8 * self.down) if self.down * self.across > 1 else (8, 4)
        self.figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(self.figure)
        axes = [
            self.figure.add_subplot(self.down, self.across, at + 1)
            for at in range(self.down * self.across)
        ]
        for at in axes:
            at.spines[["top", "right"]].set_visible(False)
        return axes

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            with atomic_path(self.path) as temporary:
                self.figure.savefig(temporary, dpi=110, format="png")
