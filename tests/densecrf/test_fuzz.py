"""What `make fuzz` does for hours, for seconds: sequences of calls made up from byte strings."""

import importlib.util
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

PATH = Path(__file__).parent / "hardening" / "calls.py"
SPEC = importlib.util.spec_from_file_location("calls", PATH)
assert SPEC is not None and SPEC.loader is not None
calls = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(calls)


@settings(max_examples=150, derandomize=True)
@given(st.binary(min_size=20, max_size=300))
def test_calls_are_refused_or_answered_properly(data: bytes) -> None:
    # The rules are those of hardening/calls.py.
    calls.run_input(data)
