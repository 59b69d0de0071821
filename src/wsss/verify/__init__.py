"""Whether a run is where runs of its recipe are known to be, stage by stage."""

from wsss.verify.comparing import Checked, Verdict, verify
from wsss.verify.expected import Expected, Known, Step, read_expected, write_expected
from wsss.verify.road import ROAD, Mile, measured

__all__ = [
    "ROAD",
    "Checked",
    "Expected",
    "Known",
    "Mile",
    "Step",
    "Verdict",
    "measured",
    "read_expected",
    "verify",
    "write_expected",
]
