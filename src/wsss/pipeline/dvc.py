"""dvc.yaml, written from the stages' declarations.

In the repository stages depend on source files, elsewhere on what wsss.lock says of these.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from wsss.config.params import COMPLETED, Params
from wsss.pipeline.code import CODE_LOCK, NATIVE, code_key
from wsss.pipeline.graph import Pipeline
from wsss.pipeline.job import REPORTS
from wsss.pipeline.origin import first_line
from wsss.pipeline.stage import Stage
from wsss.settings import models_in
from wsss.sources import LISTING, SOURCE_KEYS

__all__ = ["HEADER", "dvc_text", "dvc_text_of"]

HEADER = """\
# Written by `wsss dvc` from the declarations in src/wsss/stages; edit those.
# deps list whole packages, so that editing a method reruns what it touches.
"""

_HEADER_ELSEWHERE = """\
# Written by `wsss dvc` from the stages of wsss as it is installed.
# wsss.lock has a hash of what each package of it does; `wsss doctor upgrade` compares.
"""

_LIST_SOURCES = {
    "desc": "See what the files and folders outside the project hold, as DVC does not watch them.",
    "cmd": "python -m wsss.sources",
    "outs": [{LISTING: {"persist": True}}],  # what is not on this machine stays listed
    "always_changed": True,
}

_RECORD_RUNS: dict[str, Any] = {
    "desc": "See that every result has its run in MLflow, also one that was skipped or restored.",
    "cmd": "python -m wsss.runs",
    "deps": [],  # see `_ends`
    "always_changed": True,
}


def dvc_text(pipeline: Pipeline, *, locked: bool = False) -> str:
    """The text of dvc.yaml.

    Args:
        pipeline: all stages.
        locked: whether the code is that of wsss.lock, as outside of the repository.
    """
    stages = {
        "list_sources": _LIST_SOURCES,
        **{stage.name: _entry(stage, locked=locked) for stage in pipeline},
        "record_runs": {**_RECORD_RUNS, "deps": _ends(pipeline)},
    }
    return (_HEADER_ELSEWHERE if locked else HEADER) + yaml.safe_dump(
        {"stages": stages}, sort_keys=False, width=100
    )


def dvc_text_of(root: Path, pipeline: Pipeline) -> str:
    """The text of dvc.yaml of the project in a folder: the repository, or one that has wsss.lock.

    Raises:
        ValueError: it is neither.
    """
    locked = (root / CODE_LOCK).is_file()
    if not locked and not (root / "src/wsss/stages").is_dir():
        raise ValueError(
            f"{root.absolute()} is no project: it has neither {CODE_LOCK} nor src/wsss; `wsss init "
            "FOLDER` starts one"
        )
    return dvc_text(pipeline, locked=locked)


def _entry(stage: Stage, *, locked: bool) -> dict[str, Any]:
    """One stage as DVC has it."""
    entry = "${key}" if stage.foreach else ""
    code = stage.code_parts
    files = [part if part == NATIVE else f"src/wsss/{part}" for part in code]
    keys = [{CODE_LOCK: sorted(map(code_key, code))}]
    body: dict[str, Any] = {
        "desc": first_line(stage),
        "cmd": f"python -m wsss.stages {stage.name} {entry}".rstrip(),
        "deps": sorted([*_deps(stage), *_sources(stage)]) + ([] if locked else sorted(files)),
        "params": _params(stage) + (keys if locked else []),
    }
    if stage.makes:
        # an entry whose settings are as they were stays
        outs = sorted(map(_template, stage.makes))
        body["outs"] = [{out: {"persist": True}} for out in outs] if stage.entries else outs
    if not stage.last:  # else the report is among the outs
        body["metrics"] = [{stage.report_path(entry): {"cache": False}}]
    if stage.curve:
        axes = {"cache": False, "x": stage.curve.x, "y": stage.curve.y}
        body["plots"] = [{f"reports/{stage.report(entry)}_curve.csv": axes}]
    return {"foreach": f"${{{stage.foreach}}}", "do": body} if stage.foreach else body


def _deps(stage: Stage) -> list[str]:
    """What it reads. DVC has no word for each of several, and takes the folder that holds them.

    Nor does it let a stage depend on a folder that its own outs lie in; one that reads such a
    folder reads beside it what is made of each of its entries, and names their contents.
    """
    found = []
    for path in stage.reads:
        parent, starred, _ = path.partition("/{*")
        if not starred:
            found.append(_template(path))
        elif not any(out.startswith(f"{parent}/") for out in stage.makes):
            found.append(parent)
    return found


def _ends(pipeline: Pipeline) -> list[str]:
    """What is there once all stages have run: whatever they report, and what the last one makes."""
    return sorted({REPORTS, *(out for stage in pipeline if stage.last for out in stage.makes)})


def _sources(stage: Stage) -> list[str]:
    """The listings of what its settings may name outside the project."""
    sections = {key.partition(".")[0] for key in _params(stage)}
    return [f"{LISTING}/{name}.json" for name in sections if _names_sources(Params, name)]


def _names_sources(model: type[BaseModel], name: str) -> bool:
    """Whether a setting, or any below it, may name a source."""
    below = models_in(model.model_fields[name].annotation)
    return name in SOURCE_KEYS or any(
        _names_sources(part, field) for part in below for field in part.model_fields
    )


def _params(stage: Stage) -> list[str]:
    """Its settings, and the sections that complete what these do not name."""
    wanted = {_template(key) for key in stage.settings}
    wanted |= {COMPLETED[key].source for key in stage.settings if key in COMPLETED}
    return sorted(wanted)


def _template(text: str) -> str:
    """A path or key with DVC's way to write names in braces."""
    return re.sub(r"\{([\w.]+)\}", r"${\1}", text.replace("{entry}", "{key}"))
