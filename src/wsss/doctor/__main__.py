"""`python -m wsss.doctor`: the checks of `wsss doctor`, where that command lacks what it needs."""

import sys
from pathlib import Path

from wsss.doctor.check import ok_of_all
from wsss.doctor.machine import check_machine

if __name__ == "__main__":
    found = check_machine(Path())
    for check in found:
        print(f"{check.level:<8} {check.line()}")
    sys.exit(0 if ok_of_all(found) else 1)
