"""dvc.yaml, written from the stages' declarations."""

import re
from typing import Any

import yaml

from wsss.config.params import COMPLETED
from wsss.pipeline.code import COMMON, NATIVE, uses_native
from wsss.pipeline.graph import Pipeline
from wsss.pipeline.origin import first_line
from wsss.pipeline.stage import Stage

__all__ = ["HEADER", "dvc_text"]

HEADER = """\
# Written by `wsss dvc` from the declarations in src/wsss/stages; edit those.
# deps list whole packages, so that editing a method reruns what it touches.
"""


_RECORD_RUNS = {
    "desc": "See that every result has its run in MLflow, also one that was skipped or restored.",
    "cmd": "python -m wsss.runs",
    "deps": ["reports"],  # whatever reports comes first
    "always_changed": True,
}


def dvc_text(pipeline: Pipeline) -> str:
    """The text of dvc.yaml."""
    stages = {stage.name: _entry(stage) for stage in pipeline} | {"record_runs": _RECORD_RUNS}
    return HEADER + yaml.safe_dump({"stages": stages}, sort_keys=False, width=100)


def _entry(stage: Stage) -> dict[str, Any]:
    """One stage as DVC has it."""
    entry = "${key}" if stage.foreach else ""
    body: dict[str, Any] = {
        "desc": first_line(stage),
        "cmd": f"python -m wsss.stages {stage.name} {entry}".rstrip(),
        "deps": sorted(map(_template, stage.reads)) + _code(stage),
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


def _params(stage: Stage) -> list[str]:
    """Its settings, and the sections that complete what these do not name."""
    wanted = {_template(key) for key in stage.settings}
    wanted |= {COMPLETED[key].source for key in stage.settings if key in COMPLETED}
    return sorted(wanted)


def _template(text: str) -> str:
    """A path or key with DVC's way to write names in braces."""
    return re.sub(r"\{([\w.]+)\}", r"${\1}", text.replace("{entry}", "{key}"))
