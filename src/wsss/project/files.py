"""What a new project consists of: the texts of its files."""

import json
import re

from wsss import __version__
from wsss.config.params import Params
from wsss.config.shipped import shipped_recipes
from wsss.pipeline import Pipeline
from wsss.pipeline.code import CodeLock

__all__ = ["code_lock", "first_params", "ignored", "readme", "schema_text"]

_PARAMS = """\
# yaml-language-server: $schema=params.schema.json
#
# Every number of the pipeline, one section per stage; a stage reruns when its section changes.
# `wsss recipe list` shows ready-made sets of values. Unknown keys and wrong values are refused.

base:
  rng_seed: 2024  # the one source of randomness
  recipe: synthetic_cam  # where these values came from; a tag of every run

# Where and how fast things run. Results do not depend on it, so changing it reruns nothing.
machine:
  accelerator: auto  # auto, cpu, cuda or mps
  devices: 1  # processes on this machine; more of them train as one does
  num_workers: auto  # processes that load images; auto is one per core, at most 8
  checkpoint_minutes: 30  # training keeps its state so often, besides after each epoch
  experiment: wsss  # of MLflow

"""

_GIT = """\
__pycache__/

# what runs leave behind; DVC keeps data/ and models/
/mlflow.db*
/mlartifacts/
/.tuning/
/.study/
/.launch/
/.stages/
/.suggest/
/config.local.yaml
/reports/*.run.json
/reports/*/
/reports/data_check.png
/source/
/masks/
"""

_DVC = """\
# killing a stage must not dirty what depends on a folder
__pycache__
*.pyc
.*.partial
.*.old
.*.lock
# what a run leaves there is not its result
/reports/*.run.json
/reports/*/
"""

_README = """\
# {name}

Segmentation from image tags with wsss {version}.

```sh
wsss data check      # what is wrong with the data that params.yaml names
dvc repro            # runs the stages whose settings, data or code changed; or: wsss run
wsss compare workspace
```

params.yaml holds every setting; `wsss recipe list` shows ready-made ones,
`wsss set KEY=VALUE` changes one. Predicted masks lie in data/predictions, pictures in reports/, a
folder for each report.

wsss.lock says which code of wsss the results come from. After another version was installed,
`wsss doctor upgrade` says which stages run again with it, and with `--write` goes over to it.
"""


_EXPECTED = re.compile(r"\n(#[^\n]*\n)*expected:\n([ \t][^\n]*\n)*")
"""What runs of a recipe score, which is no setting, with the comment above it."""


def first_params() -> str:
    """The params.yaml of a project without data: painted scenes, as in the recipe synthetic_cam."""
    text = (shipped_recipes() / "synthetic_cam.yaml").read_text(encoding="utf-8")
    return _PARAMS + _EXPECTED.sub("", text.partition("\n\n")[2])


def ignored() -> dict[str, str]:
    """What git and DVC pass over, by file."""
    return {".gitignore": _GIT, ".dvcignore": _DVC}


def readme(name: str) -> str:
    """A few lines for whoever opens the folder."""
    return _README.format(name=name, version=__version__)


def code_lock(pipeline: Pipeline) -> CodeLock:
    """What wsss.lock says of the code that is installed."""
    return CodeLock.of_installed(
        __version__, [part for stage in pipeline for part in stage.code_parts]
    )


def schema_text() -> str:
    """The JSON schema of params.yaml, with the settings of everything registered."""
    values = Params.model_json_schema()
    values["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    values["title"] = "params.yaml"
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
