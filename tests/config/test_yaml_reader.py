"""What is read is what DVC reads, by ruamel.yaml: in Python, or in C, as is installed here."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from wsss.config.yaml_text import load_yaml
from wsss.settings import ConfigError

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("*.yaml"), *ROOT.glob("recipes/**/*.yaml")])


def of_dvc(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


def of_dvc_in_c(text: str) -> object:
    return YAML(typ="safe").load(text)


def test_dvc_has_its_parser_in_c() -> None:
    assert YAML(typ="safe").Parser is not YAML(typ="safe", pure=True).Parser


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_the_repository(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert repr(load_yaml(text, path.name)) == repr(of_dvc(text)) == repr(of_dvc_in_c(text))


WORDS = """\
    1 -1 +1 010 0o17 0x1F 0b11 1_000 1. 1.5 -1.5e3 1e-4 1E5 1e+5 .5 +.5 .5e+3 .inf -.inf +.INF .nan
    1:30 1:30.5 0 -0 00 08 true True TRUE tRue no on y off Null null NULL ~ nan inf e5 1e . - + _
    2001-12-14 12-14 = 1_e5 0x 1.2.3 0.1.0 1e5.0 é ١٢
""".split()  # noqa: SIM905


@pytest.mark.parametrize("word", WORDS)
def test_words(word: str) -> None:
    for text in (f"a: {word}", f"a: [{word}, 'x']", f"{{a: {word}}}"):
        try:
            expected = of_dvc(text)
        except Exception:
            with pytest.raises(ConfigError):
                load_yaml(text, "x")
            continue
        assert repr(load_yaml(text, "x")) == repr(expected), text
        if ":" not in word or text.startswith("a: 1"):  # refused within brackets, and by its place
            assert repr(of_dvc_in_c(text)) == repr(expected), text


def test_an_exponent_behind_a_bare_fraction_needs_no_sign() -> None:
    """YAML 1.2's own rule, where ruamel.yaml sees a word."""
    assert load_yaml(".5e3", "x") == 500


@given(st.from_regex(r"[-+.0-9eExob_aAfFnNiIuUlL~<= ]{1,9}", fullmatch=True))
@example("<<")
def test_plain_scalars(word: str) -> None:
    try:
        expected = of_dvc(f"[{word}]")
    except Exception:
        return
    if not any(mark in word.lower() for mark in (".", "_")):  # see above; and 1.1's underscores
        assert repr(load_yaml(f"[{word}]", "x")) == repr(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "a: &x {b: 1}\nc: {<<: *x, d: 2}",
        "a: &x {b: 1}\nc: {<<: *x, b: 2}\nd: *x",
        "a: |\n  one\n  two\nb: >\n  one\n  two\n",
        '"a b": \'it\'\'s\'\n"\\u00e9": "\\n"',
        "- 1\n- [2, {a: 3}]\n- - 4",
        "2: two\ntrue: yes\nnull: ''",
        "---\na: 1\n...\n",
        "a: http://x:1/y#z  # a comment",
        "a:\n  - b: 1\n    c: 2\n  -\n    b: 3",
    ],
)
def test_forms(text: str) -> None:
    assert repr(load_yaml(text, "x")) == repr(of_dvc(text)) == repr(of_dvc_in_c(text))


def test_aliases_are_followed_once() -> None:
    """Of themselves, and of lists of lists of lists, which written out would have 9**20 words."""
    lists = ["a: &0 [x]", *(f"b{n}: &{n + 1} [{', '.join([f'*{n}'] * 9)}]" for n in range(20))]
    assert len(load_yaml("\n".join(lists), "x")["b19"]) == 9
    found = load_yaml("a: &x [1, *x]", "x")["a"]
    assert found[1] is found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\nb: 2\na: 3",
            "x, line 3: the key 'a' stands twice in the section .* line 1; delete",
        ),
        ("- {c: {a: 1, a: 2}}", "x, line 1: the key 'a' stands twice"),
        ("a: 1\n? [1, 2]\n: 3", "x, line 2: not valid YAML: .*unhashable"),
        ("a: 1\n b: 2", "x, line 2: not valid YAML"),
        ("a: [1, 2\nb: 3", "x, line 2: not valid YAML"),
        ("a: *b", "x, line 1: not valid YAML: found undefined alias"),
        ("a: 2001-99-99", "x is not valid YAML: month must be in"),
        ("--- 1\n--- 2", "x, line 2: not valid YAML: .*single document"),
        ("a: \x01", "x is not valid YAML"),
        ("a: !!python/object:os.system 1", "x, line 1: not valid YAML: could not determine"),
    ],
)
def test_what_is_not_understood_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_yaml(text, "x")
