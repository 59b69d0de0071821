"""The site: where stages run, and what its cluster wants to be told; config.local.yaml.

None of it is a setting of the pipeline: results are the same, and nothing runs again for it.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from wsss.checks import did_you_mean
from wsss.config.yaml_text import load_yaml, read_text
from wsss.settings import ConfigError, Settings, explain

__all__ = [
    "ENGINE",
    "NAME",
    "OTHERS",
    "Site",
    "TaskSettings",
    "command_site",
    "minutes",
    "read_site",
]

NAME = "config.local.yaml"
"""The file, at the project's root; git leaves it alone."""

ENGINE = "WSSS_ENGINE"
"""The environment variable that goes before all engines in the file."""

OTHERS = ("study", "tune")
"""What has a place among the stages, and is none."""

Engine = Literal["inline", "local", "slurm"]


class TaskSettings(Settings):
    """How the tasks of one stage run."""

    engine: Engine = "inline"
    """inline: in one process, as ever; local: in processes of this machine; slurm: as jobs."""
    tasks: PositiveInt | Literal["auto"] = "auto"
    """In how many parts images are done, one GPU or a few cores each. auto: of local one per GPU,
    or per two cores; of slurm 8."""
    restarts: NonNegativeInt = 2
    """How often a task that failed is started again."""
    partition: str = ""
    """Of the cluster; empty is its own choice, as in all that follow."""
    account: str = ""
    qos: str = ""
    time: str = "4:00:00"
    """Limit of a job, as hours:minutes:seconds, days-hours:minutes or minutes. A job that reaches
    it is queued again, and goes on."""
    gpus: NonNegativeInt = 0
    """Per task; a training runs one process for each."""
    cpus: PositiveInt = 4
    """Cores per task."""
    memory: str = ""
    """Per task, such as 32G."""
    nodes: PositiveInt = 1
    """Of a training."""
    at_once: NonNegativeInt = 0
    """Tasks that run at the same time at most; 0 is no limit."""
    requeues: NonNegativeInt = 20
    """How often a job may reach its time limit, and go on."""
    notice: PositiveInt = 120
    """Seconds before the time limit at which a job writes down what it has."""
    modules: tuple[str, ...] = ()
    """Loaded in a job with `module load`."""
    setup: tuple[str, ...] = ()
    """Shell commands before a job's work, such as 'source /shared/venv/bin/activate'."""
    container: str = ""
    """What comes before a task's command, such as 'apptainer exec --nv wsss.sif'."""
    python: str = ""
    """Python of the tasks' commands; empty is the one that starts them."""
    srun: tuple[str, ...] = ()
    """Further options of srun, such as --container-image=wsss.sqsh of pyxis."""
    sbatch: dict[str, str | int | bool] = Field(default={})
    """Further options of sbatch, such as constraint: a100."""
    scratch: str = ""
    """A folder that all nodes see, for logs and what jobs are told; empty is .launch in the
    project."""
    poll: PositiveFloat = 5.0
    """Seconds between two looks at the queue."""

    @field_validator("time", mode="before")
    @classmethod
    def _time(cls, value: Any) -> Any:
        text = str(value)
        if minutes(text) < 1:
            raise ValueError(
                "it must be hours:minutes:seconds, days-hours:minutes or minutes, such as "
                "'4:00:00', and at least one minute"
            )
        return text

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.notice >= 60 * minutes(self.time):
            raise ValueError(
                f"notice is {self.notice} seconds, which is all of the time limit '{self.time}'; "
                "raise time, or lower notice"
            )
        return self

    def parts(self, items: int, devices: int) -> int:
        """In how many parts so many items are done; at least 1.

        Args:
            items: such as images.
            devices: GPUs of this machine, or pairs of cores.
        """
        own = {"local": devices, "slurm": 8}.get(self.engine, 1)
        return max(1, min(own if self.tasks == "auto" else self.tasks, items))


class Site(TaskSettings):
    """What config.local.yaml says."""

    stages: dict[str, dict[str, Any]] = Field(default={})
    """By stage (study and tune count as such), what is different for it of the keys above."""

    def of(self, name: str) -> TaskSettings:
        """How the tasks of a stage, of the study or of a search run."""
        common = {key: getattr(self, key) for key in TaskSettings.model_fields}
        own = self.stages.get(name, {})
        found = TaskSettings.model_validate(common | own)
        engine = os.environ.get(ENGINE)
        return found.model_copy(update={"engine": engine}) if engine else found

    def check_names(self, stages: Iterable[str]) -> None:
        """Raise ConfigError if it says something of a stage that is none."""
        known = [*stages, *OTHERS]
        for name in self.stages:
            if name not in known:
                raise ConfigError(f"{NAME}: stages.{name} is no stage; {did_you_mean(name, known)}")


def read_site(root: Path) -> Site:
    """Read config.local.yaml; without it all is as the defaults say.

    Raises:
        ConfigError: the file does not fit, or WSSS_ENGINE names no engine; the text names every
            key at fault and the way out.
    """
    engines = ("inline", "local", "slurm")
    engine = os.environ.get(ENGINE)
    if engine and engine not in engines:
        raise ConfigError(f"{ENGINE} is '{engine}'; {did_you_mean(engine, engines)}")
    path = root / NAME
    if not path.exists():
        return Site()
    values = load_yaml(read_text(path), NAME) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{NAME}: the top level must be keys, but is a {type(values).__name__}")
    site: Site = _valid(Site, values, NAME)
    for name, own in site.stages.items():
        common = {key: value for key, value in values.items() if key != "stages"}
        _valid(TaskSettings, common | own, f"{NAME}: stages.{name}")
    return site


def command_site(
    root: Path, command: str, engine: str | None = None, workers: int | None = None
) -> TaskSettings:
    """How the tasks of a command run: as config.local.yaml says of it, and what is given here.

    Without a word of the command there, it runs inline, whatever the stages do.

    Args:
        root: the project.
        command: one of OTHERS.
        engine: instead of the one there.
        workers: tasks that run at the same time.

    Raises:
        ConfigError: there is no such engine, or the file does not fit.
    """
    site = read_site(root)
    chosen = engine or ("inline" if command not in site.stages else site.of(command).engine)
    values = site.of(command).model_dump() | {"engine": chosen}
    if workers is not None:
        values["at_once"] = workers
    found: TaskSettings = _valid(TaskSettings, values, "--engine")
    return found


def minutes(time: str) -> int:
    """The minutes of a time limit as Slurm writes it, rounded up; 0 of what is none.

    Example:
        >>> minutes("1:30:00"), minutes("2-12"), minutes("45"), minutes("0:30"), minutes("soon")
        (90, 3600, 45, 1, 0)
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time.strip())
    if not found:
        return 0
    days, *rest = (int(part) if part else None for part in found.groups())
    given = [part for part in rest if part is not None]
    units: tuple[int, ...] = (3600, 60, 1)  # days-hours[:minutes[:seconds]]
    if days is None:  # minutes, minutes:seconds or hours:minutes:seconds
        units = {1: (60,), 2: (60, 1), 3: units}[len(given)]
    seconds = sum(value * unit for value, unit in zip(given, units, strict=False))
    return -(-(seconds + 86400 * (days or 0)) // 60)


def _valid(model: Any, values: Mapping[str, Any], source: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, source, model, values) from None
