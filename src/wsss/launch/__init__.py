"""Work in parts beside one another: as processes of this machine, or as jobs of a cluster."""

from wsss.launch.filling import fill, is_launched
from wsss.launch.part import Part, PartDone, current_part
from wsss.launch.site import NAME, Site, TaskSettings, command_site, read_site
from wsss.launch.task import Failure, Task, TasksFailedError
from wsss.launch.tasks import check_all_done, run_tasks

__all__ = [
    "NAME",
    "Failure",
    "Part",
    "PartDone",
    "Site",
    "Task",
    "TaskSettings",
    "TasksFailedError",
    "check_all_done",
    "command_site",
    "current_part",
    "fill",
    "is_launched",
    "read_site",
    "run_tasks",
]
