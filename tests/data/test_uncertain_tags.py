"""Tags that are unknown, denied, doubted or voted on, in every form that people write them in."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from wsss.data import RawDataset
from wsss.data._marks import NoMark, read_mark

Said = dict[str, float | None]
Read = Callable[..., RawDataset]
CLASSES = ("fire", "smoke")


def said(raw: RawDataset) -> dict[str, Said]:
    """By image, the probabilities of all classes, those of absent ones left out."""
    found: dict[str, Said] = {}
    for samples in raw.splits.values():
        for sample in samples:
            own: Mapping[int, float | None] = dict.fromkeys(sample.class_ids, 1.0) | dict(
                sample.uncertain
            )
            likely = [at for at, share in own.items() if share is not None and share >= 0.5]
            assert tuple(sorted(likely)) == sample.class_ids
            assert [at for at, _ in sample.uncertain] == sorted(dict(sample.uncertain))
            found[sample.name] = {raw.class_names[at - 1]: share for at, share in own.items()}
    return dict(sorted(found.items()))


SURE = "g,1,0\nh,0,1\n"
REST: dict[str, Said] = {"g": {"fire": 1}, "h": {"smoke": 1}}


@pytest.mark.parametrize(
    ("cell", "share"),
    [
        *((word, None) for word in ("?", "unknown", "NaN", "n/a", "null", "2/4", "0/0")),
        *((word, 0.8) for word in ("0.8", ".8", "80%", "80 %", "8e-1", "4/5", "8 / 10")),
        *((word, 1) for word in ("1", "1.0", "yes", "X", "3/3", "100%")),
        *((word, 0) for word in ("0", "0.0", "no", "", "0/3", "0%")),
        ("0.3", 0.3),
        ("1/4", 0.25),
    ],
)
def test_marks_in_a_column_per_class(read: Read, cell: str, share: float | None) -> None:
    found = said(read(f"image,fire,smoke\na,{cell},1\n{SURE}"))
    assert found == {"a": {"smoke": 1} | ({} if share == 0 else {"fire": share})} | REST


@pytest.mark.parametrize(
    ("mark", "share"),
    [
        *((None, None), ("?", None), ([1, 0], None), ([], None), ({"yes": 0, "no": 0}, None)),
        *((0.75, 0.75), ("3/4", 0.75), ([1, 1, 0, 1], 0.75), ({"yes": 3, "total": 4}, 0.75)),
        *((1, 1), (True, 1), ("yes", 1), (0, 0), (False, 0), ({"yes": 0, "no": 4}, 0)),
    ],
)
@pytest.mark.parametrize("form", ["mapping", "objects", "lines"])
def test_marks_in_json(read: Read, mark: Any, share: float | None, form: str) -> None:
    values = {"a": {"fire": mark, "smoke": 1}, "g": {"fire": 1, "smoke": 0}, "h": {"smoke": 1}}
    objects = [{"image": name} | own for name, own in values.items()]
    text: Any = values if form == "mapping" else objects
    if form == "lines":
        text = "\n".join(map(json.dumps, objects))
    found = said(read(text, "t.jsonl" if form == "lines" else "t.json"))
    assert found == {"a": {"smoke": 1} | ({} if share == 0 else {"fire": share})} | REST


@pytest.mark.parametrize(
    ("cell", "shares"),
    [
        ("fire:0.8", {"fire": 0.8}),
        ("fire: 0.8; smoke", {"fire": 0.8, "smoke": 1}),
        ("fire=80%; smoke (0.25)", {"fire": 0.8, "smoke": 0.25}),
        ("fire:3/4, smoke:1/4", {"fire": 0.75, "smoke": 0.25}),
        ("smoke; fire:?", {"fire": None, "smoke": 1}),
        ("smoke;?", {"fire": None, "smoke": 1}),
        ("?", {"fire": None, "smoke": None}),
        ("?;!fire", {"smoke": None}),
        ("!fire", {}),
        ("smoke;-fire", {"smoke": 1}),
        ('{"fire": 0.8}', {"fire": 0.8}),
        ("['fire:0.8', 'smoke']", {"fire": 0.8, "smoke": 1}),
        ("fire:1/2", {"fire": None}),
        ("fire:0", {}),
    ],
)
@pytest.mark.parametrize("form", ["table", "json", "known"])
def test_marks_among_tags(read: Read, cell: str, shares: Said, form: str) -> None:
    settings = {"classes": CLASSES} if form == "known" else {}
    if form == "json":
        raw = read({"a": cell, "g": "fire", "h": "smoke"}, "t.json")
    else:
        quoted = cell.replace('"', '""')
        raw = read(f'image,tags\na,"{quoted}"\ng,fire\nh,smoke\n', **settings)
    assert said(raw) == {"a": shares} | REST
    assert all(problem.name in "bcdef" for problem in raw.problems)


def test_no_denies_a_class_that_is_known_and_is_a_class_elsewhere(read: Read) -> None:
    text = "image,tags\na,no smoke\nb,smoke\ng,fire\nh,smoke\n"
    assert said(read(text, classes=CLASSES))["a"] == {}
    assert read(text).class_names == ("fire", "no smoke", "smoke")
    assert said(read(text, empty_tag="no smoke"))["a"] == {}
    assert read(text, classes=(*CLASSES, "no smoke")).class_names[-1] == "no smoke"
    minus = "image,tags\na,-x\nb,cat\nc,dog\n"
    assert read(minus).class_names == ("-x", "cat", "dog")


def test_classes_named_like_marks_are_classes(read: Read) -> None:
    raw = read("image,tags\na,?\nb,fire:1\nc,!x\nd,fire\n", classes=("?", "fire:1", "!x", "fire"))
    assert [next(iter(own.items())) for own in said(raw).values()] == [
        ("?", 1),
        ("fire:1", 1),
        ("!x", 1),
        ("fire", 1),
    ]


def test_minus_one_is_no_unless_others_say_zero(read: Read) -> None:
    assert said(read("image,fire,smoke\na,1,-1\nb,-1,1\nc,1,\n")) == {
        "a": {"fire": 1},
        "b": {"smoke": 1},
        "c": {"fire": 1},
    }
    raw = read("image,fire,smoke\na,1,-1\nb,0,1\nc,1,\n")
    assert said(raw) == {"a": {"fire": 1, "smoke": None}, "b": {"smoke": 1}, "c": {"fire": 1}}
    assert "t.csv has 1 images with classes that nobody knows of, such as 'a'" in raw.warnings
    values = {"a": {"fire": 1, "smoke": -1}, "b": {"fire": 0, "smoke": 1}}
    assert said(read(values, "t.json"))["a"] == {"fire": 1, "smoke": None}


def test_empty_cells_are_zeros_until_somebody_says_otherwise(read: Read) -> None:
    text = "image,fire,smoke\na,1,\nb,?,1\nc,,\n"
    raw = read(text)
    assert said(raw) == {"a": {"fire": 1}, "b": {"fire": None, "smoke": 1}, "c": {}}
    assert any(
        "3 empty cells beside others" in text and "unknown_tags" in text for text in raw.warnings
    )
    raw = read(text, unknown_tags=[""])
    assert said(raw)["a"] == {"fire": 1, "smoke": None}
    assert said(raw)["c"] == {"fire": None, "smoke": None}
    assert not any("empty cells" in text for text in raw.warnings)
    assert said(read("image,tags\na,fire\nb,Unsure\nc,\n", unknown_tags=["unsure", ""])) == {
        "a": {"fire": 1},
        "b": {"fire": None},
        "c": {"fire": None},
    }


def test_a_column_of_confidences(read: Read) -> None:
    raw = read(
        "image,label,confidence\na,fire,0.75\na,smoke,0.25\ng,fire,1\nh,smoke,1\na,fire,0.6\n"
    )
    assert said(raw) == {"a": {"fire": 0.75, "smoke": 0.25}} | REST
    with pytest.raises(ValueError, match=r"t\.csv, line 2: 'a' has 'fire' with '75', which"):
        read("image,label,confidence\na,fire,75\n")


VOTES = """
a,fire,1,ann
a,fire,1,bob
a,fire,0,eve
a,smoke,no,ann
a,smoke,yes,bob
b,fire,?,ann
b,smoke,1,ann
g,fire,1,ann
h,smoke,1,ann
h,fire,0,ann
a,fire,1,ann
"""


def test_a_vote_a_line(read: Read) -> None:
    wanted = {"a": {"fire": 2 / 3, "smoke": None}, "b": {"fire": None, "smoke": 1}} | REST
    wanted["g"] = {"fire": 1, "smoke": None}  # on which nobody has voted
    assert said(read(f"image,class,vote,voter{VOTES}")) == wanted
    anonymous = [line.rpartition(",")[0] for line in VOTES.split()]
    raw = read("\n".join(["image,class,vote", *anonymous]))
    assert said(raw) == wanted | {"a": {"fire": 0.75, "smoke": None}}


def test_a_line_a_voter_with_columns_of_classes(read: Read) -> None:
    lines = ["a,ann,1,0", "a,bob,1,1", "a,eve,0,?", "g,ann,1,0", "h,ann,0,1"]
    found = said(read("\n".join(["image,annotator,fire,smoke", *lines])))
    assert found == {"a": {"fire": 2 / 3, "smoke": None}} | REST


@pytest.mark.parametrize("counts", ["yes,no", "yes,total"])
def test_counted_votes(read: Read, counts: str) -> None:
    of_total = counts == "yes,total"
    rows = [("a", "fire", 3, 1), ("a", "smoke", 2, 2), ("b", "fire", 0, 0), ("b", "smoke", 1, 2)]
    rows += [("g", "fire", 5, 0), ("h", "smoke", 1, 0), ("h", "fire", 0, 2)]
    lines = [f"{n},{c},{yes},{yes + no if of_total else no}" for n, c, yes, no in rows]
    assert said(read("\n".join([f"image,label,{counts}", *lines]))) == {
        "a": {"fire": 0.75, "smoke": None},
        "b": {"fire": None, "smoke": 1 / 3},
        "g": {"fire": 1, "smoke": None},
        "h": {"smoke": 1},
    }
    lines = [f"{n},{yes},{yes + no if of_total else no}" for n, c, yes, no in rows if c == "smoke"]
    found = read("\n".join([f"image,{counts}", *lines]), classes=["smoke"])
    assert said(found) == {"a": {"smoke": None}, "b": {"smoke": 1 / 3}, "h": {"smoke": 1}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image,fire\na,1\nb,1.5\n", "line 3: column 'fire' holds '1.5', but must hold 0 or 1"),
        ("image,fire\na,1\nb,-0.2\n", "line 3: column 'fire' holds '-0.2', but must hold"),
        (
            "image,fire\na,5/3\n",
            "line 2: column 'fire' holds '5/3', by which 5 of 3 voters said yes",
        ),
        ("image,fire,score\na,1,0.3\n", "line 2: column 'score' holds '0.3', but must hold 0 or 1"),
        (
            "image,tags\na,fire:1.5\n",
            "line 2: 'a' has 'fire' with '1.5', which is no probability",
        ),
        ("image,tags\na,fire:95\n", "'fire' with '95', which is no probability .* percents with %"),
        ("image,tags\na,fire:5/3\n", "'fire' with '5/3', by which 5 of 3 voters said yes; write"),
        ("image,tags\na,fire;!fire\n", "line 2: 'a' has 'fire' both as there and as not there; k"),
        ("image,tags\na,fire\na,!fire\n", "line 3: 'a' has 'fire' both as there and as not there"),
        ("image,tags\na,fire:0.2;fire\n", "'fire' with the probability 0.2 and with the prob"),
        ("image,tags\na,fire:0.2\na,fire:0.3\n", "line 3: 'a' has 'fire' with the probability 0.2"),
        ("image,tags\na,fire;fire:?\n", "'fire' with the probability 1 and with nobody knowing"),
        ("image,tags\na,none:0.5\n", "line 2: 'a' has 'none', which says that no class is there"),
        ("image,label,vote\na,,1\n", "line 2: 'a' has a vote on no class; name the class"),
        ("image,label,yes,total\na,fire,4,3\n", "line 2: by which 4 of 3 voters said yes"),
        (
            "image,class,vote,voter\na,fire,1,ann\na,fire,0,ann\n",
            "line 3: 'ann' says no to 'fire' in 'a', and yes before, line 2; keep one vote of each",
        ),
        (
            "image,voter,fire\na,ann,1\na,ann,0\n",
            "line 3: 'ann' says no to 'fire' in 'a', and yes before, line 2",
        ),
    ],
)
def test_contradictions_name_file_line_value_and_way_out(
    read: Read, text: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=rf"t\.csv, {reason}" if "line" in reason[:4] else reason):
        read(text)


def test_contradictions_in_json_name_the_image_and_the_value(read: Read) -> None:
    with pytest.raises(ValueError, match=r"'a' has 'fire' with '1.5', which is no probability"):
        read({"a": {"fire": 1.5}}, "t.json")
    with pytest.raises(ValueError, match=r"object 1: column 'fire' holds '1.5', but must hold 0"):
        read([{"image": "a", "fire": 1.5}], "t.json")
    with pytest.raises(ValueError, match=r"'a' has .* must map tags to 1 .*, a probability, votes"):
        read({"a": {"fire": "much"}, "b": ["fire"]}, "t.json")


def test_names_of_ids_and_other_spellings_hold_for_doubted_tags(read: Read) -> None:
    assert said(read("image,label\na,1:0.75\nb,2\nc,1\n", classes=CLASSES)) == {
        "a": {"fire": 0.75},
        "b": {"smoke": 1},
        "c": {"fire": 1},
    }
    raw = read("image,tags\na,Fire:0.75\nb,smoke;!FIRE\nc,fire\n", classes=CLASSES)
    assert said(raw) == {"a": {"fire": 0.75}, "b": {"smoke": 1}, "c": {"fire": 1}}
    with pytest.raises(ValueError, match=r"tags that dataset\.classes does not have:\n *'fir'"):
        read("image,tags\na,fir:0.75\nb,smoke\n", classes=CLASSES)


def test_what_no_image_surely_or_likely_has_is_no_class(read: Read) -> None:
    raw = read("image,fire,smoke\na,1,?\nb,1,0.3\nc,0,0\n")
    assert raw.class_names == ("fire",)
    assert said(raw) == {"a": {"fire": 1}, "b": {"fire": 1}, "c": {}}


@pytest.mark.parametrize("value", ["much", [1, "much"], {"yes": 1}, {"yes": "a", "no": 1}])
def test_what_says_nothing_is_no_mark(value: Any) -> None:
    with pytest.raises(NoMark, match="write"):
        read_mark(value)
