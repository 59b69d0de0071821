"""What is wrong, and what mends it: with this machine, and with what a pipeline has made.

`wsss.doctor.machine` looks at the machine; it needs Python's own modules alone, so that it works
where an installation does not. `wsss.doctor.results` looks at the results of a project.
"""

from wsss.doctor.check import LEVELS, Check, Level, ok_of_all

__all__ = ["LEVELS", "Check", "Level", "ok_of_all"]
