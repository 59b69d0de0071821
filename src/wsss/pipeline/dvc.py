"""dvc.yaml, written from the stages' declarations."""

import re
from typing import Any

import yaml
from pydantic import BaseModel

from wsss.config.params import COMPLETED, Params
from wsss.pipeline.code import COMMON, NATIVE, uses_native
from wsss.pipeline.graph import Pipeline
from wsss.pipeline.origin import first_line
from wsss.pipeline.stage import Stage
from wsss.settings import models_in
from wsss.sources import LISTING, SOURCE_KEYS

__all__ = ["HEADER", "dvc_text"]

HEADER = """\
# Written by `wsss dvc` from the declarations in src/wsss/stages; edit those.
# deps list whole packages, so that editing a method reruns what it touches.
"""


_LIST_SOURCES = {
    "desc": "See what the files and folders outside the project hold, as DVC does not watch them.",
    "cmd": "python -m wsss.sources",
    "outs": [{LISTING: {"persist": True}}],  # what is not on this machine stays listed
    "always_changed": True,
}

_RECORD_RUNS = {
    "desc": "See that every result has its run in MLflow, also one that was skipped or restored.",
    "cmd": "python -m wsss.runs",
    "deps": ["reports"],  # whatever reports comes first
    "always_changed": True,
}


def dvc_text(pipeline: Pipeline) -> str:
    """The text of dvc.yaml."""
    stages = {
        "list_sources": _LIST_SOURCES,
        **{stage.name: _entry(stage) for stage in pipeline},
        "record_runs": _RECORD_RUNS,
    }
    return HEADER + yaml.safe_dump({"stages": stages}, sort_keys=False, width=100)


def _entry(stage: Stage) -> dict[str, Any]:
    """One stage as DVC has it."""
    entry = "${key}" if stage.foreach else ""
    body: dict[str, Any] = {
        "desc": first_line(stage),
        "cmd": f"python -m wsss.stages {stage.name} {entry}".rstrip(),
        "deps": sorted([*map(_template, stage.reads), *_sources(stage)]) + _code(stage),
        "params": _params(stage),
    }
    if stage.makes:
        # an entry whose settings are as they were stays
        outs = sorted(map(_template, stage.makes))
        body["outs"] = [{out: {"persist": True}} for out in outs] if stage.entries else outs
    body["metrics"] = [{stage.report_path(entry): {"cache": False}}]
    if stage.curve:
        axes = {"cache": False, "x": stage.curve.x, "y": stage.curve.y}
        body["plots"] = [{f"reports/{stage.report(entry)}_curve.csv": axes}]
    return {"foreach": f"${{{stage.foreach}}}", "do": body} if stage.foreach else body


def _code(stage: Stage) -> list[str]:
    page = stage.module.rpartition(".")[2]
    code = [f"src/wsss/{name}" for name in {*COMMON, *stage.code, f"stages/{page}.py"}]
    return sorted([*code, *([NATIVE] if uses_native(stage.code) else [])])


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
