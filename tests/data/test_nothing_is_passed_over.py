"""What a file says of tags beside their names is used, said to be unused, or refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wsss.data import RawDataset

Read = Callable[..., RawDataset]
Said = dict[str, dict[str, float | None]]


def said(raw: RawDataset) -> Said:
    """By image, the probabilities of its classes."""
    return {
        sample.name: {
            raw.class_names[at - 1]: share
            for at, share in (dict.fromkeys(sample.class_ids, 1.0) | dict(sample.uncertain)).items()
        }
        for samples in raw.splits.values()
        for sample in samples
    }


def lines(header: str, line: str) -> str:
    """A table of the images a to h: cats are in every second one."""
    rows = (line.format(name=name, tag=("cat", "dog")[n % 2]) for n, name in enumerate("abcdefgh"))
    return "\n".join((header, *rows)) + "\n"


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("present", ("1", "0")),
        ("is_present", ("yes", "no")),
        ("value", ("1.0", "0.0")),
        ("count", ("2", "0")),
        ("votes", ("5", "0")),
        ("yes", ("5", "0")),
        ("vote", ("yes", "maybe")),
        ("exists", ("true", "")),
    ],
)
def test_a_column_that_may_deny_tags_is_no_ornament(
    read: Read, header: str, cells: tuple[str, str]
) -> None:
    there, other = cells
    text = lines(f"image,class,{header}", f"{{name}},{{tag}},{there}")
    assert said(read(text))["a"].get("cat") == 1
    with pytest.raises(ValueError, match=rf"line 2: column '{header}' holds '{other}', which may"):
        read(text.replace(f"a,cat,{there}", f"a,cat,{other}"))


@pytest.mark.parametrize("header", ["score", "Confidence", "prob"])
def test_numbers_beside_tags_are_probabilities(read: Read, header: str) -> None:
    known = ["cat", "dog"]
    text = lines(f"image,label,{header}", "{name},{tag},0.03").replace("h,dog,0.03", "h,dog,1")
    found = said(read(text, classes=known))
    assert found["a"] == {"cat": 0.03} and found["b"] == {"dog": 0.03}
    unknown = said(read(lines(f"image,label,{header}", "{name},{tag},1") + "a,dog,-1\nb,cat,0\n"))
    assert unknown["a"] == {"cat": 1, "dog": None} and unknown["b"] == {"dog": 1}


def test_a_column_of_which_nothing_is_taken_is_named(read: Read) -> None:
    raw = read(lines("image,class,occluded,source", "{name},{tag},1,web"))
    assert "t.csv has columns of which nothing is taken: occluded, source" in raw.warnings
    raw = read(lines("image,class,count,number,valid_from", "{name},{tag},2,A12,0"))
    assert "t.csv has columns of which nothing is taken: count, number, valid_from" in raw.warnings
    raw = read(lines("image,class,vote,annotator,confidence", "{name},{tag},1,ann,0.2"))
    assert said(raw)["a"] == {"cat": 1, "dog": None}
    assert "t.csv has columns of which nothing is taken: confidence" in raw.warnings
    raw = read(lines("image,class,vote,annotator", "{name},{tag},1,ann"))
    assert not any("nothing is taken" in text for text in raw.warnings)


def test_a_tag_without_a_confidence_is_certain_and_said_to_be(read: Read) -> None:
    text = lines("image,label,confidence", "{name},{tag},0.9").replace("a,cat,0.9", "a,cat,")
    raw = read(text)
    assert said(raw)["a"] == {"cat": 1} and said(raw)["b"] == {"dog": 0.9}
    assert any("1 of 8 lines without a confidence" in text for text in raw.warnings)
    assert said(read(text, unknown_tags=[""]))["a"] == {"cat": None}
    objects = [{"image": "a", "tags": ["cat"]}, {"image": "b", "tags": "dog", "confidence": 0.8}]
    assert said(read(objects, "t.json")) == {"a": {"cat": 1}, "b": {"dog": 0.8}}


def test_a_list_of_confidences_is_one_of_each_tag(read: Read) -> None:
    both = {"tags": ["cat", "dog"], "scores": [0.95, 0.2]}
    found = said(read([{"image": name} | both for name in "ab"], "t.json", classes=["cat", "dog"]))
    assert found["a"] == {"cat": 0.95, "dog": 0.2}
    with pytest.raises(ValueError, match=r"'a' has 2 confidences for 3 tags; write one for each"):
        read([{"image": "a"} | both | {"tags": ["cat", "dog", "emu"]}], "t.json")
    with pytest.raises(ValueError, match=r"'a' has 2 confidences for a tag"):
        read([{"image": "a"} | both | {"tags": "cat"}], "t.json")


def test_who_did_not_vote_did_not_vote_no(read: Read) -> None:
    votes = [("ann", "1"), ("bob", ""), ("eve", "1")]
    text = "image,class,vote,voter\n" + "".join(
        f"{name},{tag},{vote},{who}\n"
        for name, tag in zip("abcd", ("cat", "dog") * 2, strict=True)
        for who, vote in votes
    )
    assert said(read(text))["a"]["cat"] == 1


@pytest.mark.parametrize("word", ["test", "val", "is_valid", "validation"])
def test_a_column_named_after_a_split_is_no_class(read: Read, word: str) -> None:
    held = {"g", "h"}
    marks = "".join(f"{n},{n < 'd':d},{n >= 'd':d},{n in held:d}\n" for n in "abcdefgh")
    raw = read(f"image,cat,dog,{word}\n{marks}")
    assert raw.class_names == ("cat", "dog")
    assert {sample.name for sample in raw.splits["val"]} == held
    assert (
        read(f"image,cat,dog,{word}\n{marks}", classes=["cat", "dog", word]).class_names[2] == word
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1,0\nb,0,1\n", "must begin with a header that names the classes of its 2 columns"),
        ("image,cat,cat\na,1,0\nb,0,1\n", "several columns called 'cat'"),
        ("image,cat,dog,valid\na,1,0,1\nb,0,1,0\n", "'valid' may be the split val, or say which"),
        ("image,label,score\na,cat,7\n", "with '7', .*or rename the column"),
        ('image,tags\na.jpg,"cat\nb.jpg,"cat\n', r"has the tag 'b.jpg', which is the name of"),
        ("image,tags\na,cat\nb,cat?\n", r"the tag 'cat\?' may be a class, .* write 'cat:\?'"),
    ],
)
def test_what_is_written_wrongly_is_refused(read: Read, text: str, message: str) -> None:
    if "name of" in message:
        text += 'c.jpg,dog\n"b.jpg",cat\n'
    with pytest.raises(ValueError, match=message):
        read(text)


def test_objects_without_keys_are_refused(read: Read) -> None:
    with pytest.raises(ValueError, match="has objects without keys"):
        read([{}], "t.json")


BINARY = lines("image,label", "{name},{tag}").replace("cat", "0").replace("dog", "1")
NEGATIVE = {"a": {}, "b": {"smoke": 1.0}}


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("none\nsmoke\n", BINARY.replace(",0", ",none").replace(",1", ",smoke")),
        ('{"0": "none", "1": "smoke"}', BINARY),
        ("None\nsmoke\n", BINARY),
    ],
)
def test_the_empty_tag_in_a_file_of_classes_is_no_class(
    read: Read, tmp_path: Path, names: str, text: str
) -> None:
    file = "n.json" if names.startswith("{") else "n.txt"
    (tmp_path / file).write_text(names, encoding="utf-8")
    raw = read(text, classes=file)
    assert raw.class_names == ("smoke",)
    assert {name: said(raw)[name] for name in NEGATIVE} == NEGATIVE


def test_zero_and_one_are_told_what_to_do(read: Read, tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text('{"1": "smoke"}')
    for settings in ({}, {"classes": "n.json"}, {"classes": ["smoke"]}):
        with pytest.raises(ValueError, match=r"set dataset\.empty_tag: '0' and .*as \[smoke\]"):
            read(BINARY, **settings)
    raw = read(BINARY, empty_tag="0", classes=["smoke"])  # as it says
    assert {name: said(raw)[name] for name in NEGATIVE} == NEGATIVE
    with pytest.raises(ValueError, match=r"n\.txt lists 'none' among the classes"):
        (tmp_path / "n.txt").write_text("smoke\nnone\n")
        read(BINARY, classes="n.txt")
