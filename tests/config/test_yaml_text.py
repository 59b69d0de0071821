"""Editing YAML in place: the value changes, every other byte stays."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wsss.config.yaml_text import flow_text, fragment_at, load_yaml, set_value

TEXT = """\
# head

a:  # of a
  b: 1  # one
  # before c
  c: [1, 2]

  # before d
  d:
    e: {f: 2, g: 'x'}  # flow
    h:
      - i: 3  # three
        j: 4
      - k: 5

# before l
l: null
m:
n: {}  # empty
o: |
  text
p: last  # end
# tail
"""


@pytest.mark.parametrize(
    ("path", "value", "old", "new"),
    [
        (("a", "b"), 7, "b: 1  # one", "b: 7  # one"),
        (("a", "c"), [3], "c: [1, 2]\n", "c: [3]\n"),
        (("a", "d", "e", "f"), 9, "{f: 2,", "{f: 9,"),
        (("a", "d", "e", "z"), {"u": 1}, "g: 'x'}", "g: 'x', z: {u: 1}}"),
        (("a", "d", "h", 0, "i"), 8, "i: 3  # three", "i: 8  # three"),
        (("a", "d", "h", 1), {"q": 1, "r": [2]}, "- k: 5", "- {q: 1, r: [2]}"),
        (("a", "d", "h", 0, "new"), 1, "        j: 4\n", "        j: 4\n        new: 1\n"),
        (("a", "d", "e"), {"x": {"u": 1}}, "e: {f: 2, g: 'x'}", "e: {x: {u: 1}}"),
        (("a", "new"), True, "      - k: 5\n", "      - k: 5\n  new: true\n"),
        (("l",), "none", "l: null", "l: none"),
        (("m",), 3, "m:\n", "m: 3\n"),
        (("m", "x"), 3, "m:\n", "m: {x: 3}\n"),
        (("n", "x", "u"), 3, "n: {}", "n: {x: {u: 3}}"),
        (("o",), "line", "o: |\n  text\n", "o: line\n"),
        (("p",), None, "p: last  # end", "p: null  # end"),
        (("new",), [{"a": 1}], "p: last  # end\n", "p: last  # end\nnew: [{a: 1}]\n"),
        (("a",), {}, TEXT[TEXT.index("a:  #") : TEXT.index("\n# before l")], "a: {}  # of a\n"),
    ],
)
def test_one_edit(path: tuple[str | int, ...], value: Any, old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    edited = set_value(TEXT, path, value)
    assert edited == TEXT.replace(old, new)


def test_a_fragment_brings_its_comments_to_another_depth() -> None:
    source = "x:\n    y:\n        z: 1  # zed\n        # more\n        w: [1, 2]\n"
    edited = set_value(
        "q:\n  y: 0\nr: 1\n", ("q", "y"), {"z": 1, "w": [1, 2]}, fragment_at(source, ("x", "y"))
    )
    assert edited == "q:\n  y:\n    z: 1  # zed\n    # more\n    w: [1, 2]\nr: 1\n"


PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
TREES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(TREES)
def test_any_value_reads_back_on_one_line(value: Any) -> None:
    text = flow_text(value)
    assert "\n" not in text
    assert load_yaml(f"[{text}, 1]", "x") == [value, 1]


@given(PLAIN)
def test_dvc_reads_the_same_plain_value_as_we_do(value: Any) -> None:
    """Other readers of params.yaml follow YAML 1.1, in which 1e-5 is text and `no` is false."""
    read = yaml.safe_load(flow_text(value))
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["...", "... a", "...a", "---", "--- a"])
def test_marks_of_documents_are_texts_like_any_other(text: str) -> None:
    value = {text: [text]}
    assert load_yaml(flow_text(value), "x") == yaml.safe_load(flow_text(value)) == value


@given(
    TREES,
    st.sampled_from(
        [("a", "b"), ("a", "d"), ("a", "d", "h", 0), ("a", "d", "e", "f"), ("l",), ("a", "+")]
    ),
)
def test_any_value_can_be_set_anywhere(value: Any, path: tuple[str | int, ...]) -> None:
    edited = load_yaml(set_value(TEXT, path, value), "x")
    at = edited
    for part in path[:-1]:
        at = at[part]
    assert at.pop(path[-1]) == value
    wanted: Any = load_yaml(TEXT, "x")
    place = wanted
    for part in path[:-1]:
        place = place[part]
    if path[-1] != "+":
        place.pop(path[-1])
    assert edited == wanted


def test_a_block_goes_to_one_line_and_back_without_losing_the_comment_of_its_key() -> None:
    text = "a: 1\nb:  # of b\n  c: 1  # of c\n\n# before d\nd: 1\n"
    empty = set_value(text, ("b",), {})
    assert empty == "a: 1\nb: {}  # of b\n\n# before d\nd: 1\n"
    assert set_value(empty, ("b",), {"c": 1}, fragment_at(text, ("b",))) == text
