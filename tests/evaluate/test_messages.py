"""What messages of the package tell to write is written, and gives the right answer."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss import evaluate
from wsss.artifacts import Sample, ScoreMap, write_label_png, write_score_map
from wsss.data.images import PreparedImage
from wsss.evaluate import (
    ChainScores,
    Counts,
    choose_chains,
    confusion_matrix,
    evaluate_labels,
    evaluate_score_maps,
    group_ids,
    paired_differences,
    read_ground_truth,
    score_histogram,
    threshold_grid,
)
from wsss.evaluate.placing import place_mask, read_mask

GT = np.array([[0, 1, 2, 255], [2, 2, 0, 1]], np.uint8)
MASK = np.array([[0, 1, 1, 1], [2, 255, 0, 0]], np.uint8)
RIGHT = [[2, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1]]


def message_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    return str(caught.value)


def test_chains_that_cannot_be_compared() -> None:
    one = ChainScores(0.5, 0.5, {"a": 0.5}, {"a": 3})
    other = ChainScores(0.5, 0.5, {"a": 0.5}, {"a": 2})
    assert "no chain to choose from" in message_of(lambda: choose_chains({}, ["a"], 20))
    text = message_of(lambda: choose_chains({"crf": one, "pamr": other}, ["a"], 20))
    assert "the chain 'pamr' was scored on other images than the others" in text


@pytest.mark.parametrize("name", ["gt_mask", "mask"])
@pytest.mark.parametrize(
    "cast",
    [
        lambda mask: mask.astype(np.int64),
        lambda mask: mask.astype(np.int8),  # 255 is -1
        lambda mask: np.where(mask == 255, -1, mask.astype(np.int64)),
        lambda mask: np.where(mask == 255, -1, mask.astype(np.float32)),
        lambda mask: mask.astype(np.float64),
    ],
)
def test_a_mask_of_another_dtype_becomes_right_as_told(name: str, cast: Callable[..., Any]) -> None:
    masks = {"gt_mask": GT, "mask": MASK}
    given = masks | {name: cast(masks[name])}
    message = message_of(lambda: confusion_matrix(**given, num_classes=3))
    (told,) = re.findall(r"; take ([^,]+\))(?:,|$)", message)
    given[name] = eval(told, {"np": np, **given})
    assert confusion_matrix(**given, num_classes=3).tolist() == RIGHT
    histogram = score_histogram(given["gt_mask"], score_map(), 3, threshold_grid(0.5))
    assert histogram.tolist() == score_histogram(GT, score_map(), 3, threshold_grid(0.5)).tolist()


def test_a_mask_that_no_cast_makes_right_is_not_told_one() -> None:
    for mask in (GT.astype(int) * 256, GT.astype(int) - 2, GT / 2):
        message = message_of(lambda mask=mask: confusion_matrix(GT, mask, 3))
        assert "astype" not in message and message.startswith("mask must be uint8, but is ")
    # probabilities, of which the argmax is what is told
    probs = np.stack([value == MASK for value in range(3)]) * 0.9
    message = message_of(lambda: confusion_matrix(GT[:, :3], probs[0][:, :3], 3))
    assert "an argmax gives it" in message
    message = message_of(lambda: confusion_matrix(GT, probs.argmax(axis=0), 3))
    (told,) = re.findall(r"; take (.+)$", message)
    matrix = confusion_matrix(GT, eval(told, {"np": np, "mask": probs.argmax(axis=0)}), 3)
    assert matrix[:, :3].sum() == 7


def score_map() -> ScoreMap:
    scores = np.linspace(0, 1, 8, dtype=np.float32).reshape(1, 2, 4)
    return ScoreMap(np.array([2], np.uint8), scores, (2, 4), np.ones(1, np.float32))


def test_a_mask_of_another_size_becomes_right_as_told(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_label_png(path, GT.repeat(3, axis=0).repeat(3, axis=1))
    message = message_of(lambda: read_ground_truth(path, (2, 4), 2))
    assert "has 6 x 12 pixels (height x width), but its image has 2 x 4" in message
    assert "resize it without interpolation" in message
    with Image.open(path) as image:
        resized = image.resize((4, 2), Image.Resampling.NEAREST)
    resized.save(path)
    assert (read_ground_truth(path, (2, 4), 2) == GT).all()


def test_a_mask_of_other_values_becomes_right_as_told(tmp_path: Path) -> None:
    path, mapped = tmp_path / "a.png", tmp_path / "b.png"
    write_label_png(path, np.where(GT == 2, 7, GT).astype(np.uint8))
    message = message_of(lambda: read_ground_truth(path, (2, 4), 2))
    assert "holds the value 7; a mask holds 0 (background), 1..2" in message
    assert "map other values to one of these, or name the missing classes" in message
    values: dict[int | str, int] = {0: 0, 1: 1, 255: 255}
    image = PreparedImage("a.png", (2, 4), ())
    told = str(place_mask(path, mapped, path, image, 2, values).problem)
    assert "holds the value 7" in told and "hold only 0, 1, 255" in told
    assert place_mask(path, mapped, path, image, 2, values | {7: 2}).problem is None
    assert (read_ground_truth(mapped, (2, 4), 2) == GT).all()
    assert read_ground_truth(path, (2, 4), 7).max() == 255  # with the missing classes


@pytest.mark.parametrize("values", [[[0.5, 1]], [[0, 70000]]])
def test_a_mask_of_other_numbers_becomes_right_as_told(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "a.tif"
    image = PreparedImage("a.png", (1, 2), ())
    Image.fromarray(np.array(values, np.float32)).save(path)
    told = str(place_mask(path, tmp_path / "b.png", path, image, 1, {}).problem)
    assert "fractions" in told or "leave 0..65535" in told
    Image.fromarray(np.clip(np.rint(values), 0, 1).astype(np.uint8)).save(path)
    assert place_mask(path, tmp_path / "b.png", path, image, 1, {}).problem is None


def test_a_mask_with_colours_becomes_right_as_told(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_label_png(path, GT)
    with Image.open(path) as image:
        coloured = image.convert("RGB")
    coloured.save(path)
    message = message_of(lambda: read_ground_truth(path, (2, 4), 2))
    assert "save it as palette or grey PNG" in message
    Image.fromarray(GT).save(path)  # grey
    assert (read_ground_truth(path, (2, 4), 2) == GT).all()


def test_a_group_is_right_with_the_name_that_is_told() -> None:
    names = ("person", "horse")
    message = message_of(lambda: group_ids({"big": ["hrose"]}, names))
    assert message.startswith("class_groups.big names 'hrose', which is no class; ")
    (told,) = re.findall(r"did you mean '(\w+)'\?", message)
    assert group_ids({"big": [told]}, names) == {"big": [0, 2]}


def test_files_of_other_classes_are_right_when_written_again(tmp_path: Path) -> None:
    masks, files = tmp_path / "masks", tmp_path / "files"
    write_label_png(masks / "a.png", GT)
    sample = Sample("a", "a.jpg", (2, 4), (2,), "a.png")

    write_label_png(files / "a.png", np.where(MASK == 2, 3, MASK).astype(np.uint8))
    message = message_of(lambda: evaluate_labels([sample], files, masks, 2))
    assert re.search(r"a\.png: mask holds \[3\], but .*; rerun the stage that writes it$", message)
    write_label_png(files / "a.png", MASK)
    assert evaluate_labels([sample], files, masks, 2).matrix.tolist() == RIGHT

    other = ScoreMap(np.array([3], np.uint8), score_map().scores, (2, 4), np.ones(1, np.float32))
    write_score_map(files / "a.npz", other)
    message = message_of(lambda: evaluate_score_maps([sample], files, masks, 2, 0.5))
    assert message.endswith("made from other images or classes; rerun the stage that writes it")
    write_score_map(files / "a.npz", score_map())
    assert evaluate_score_maps([sample], files, masks, 2, 0.5).images == 1


def test_a_comparison_needs_the_image_that_it_says_it_lacks() -> None:
    one = Counts(*(np.array([[3, 2]]), np.array([[4, 5]]), np.array([[6, 2]])))
    none = Counts(*(part[:0] for part in vars(one).values()))

    def compared(counts: Counts) -> Any:
        return paired_differences(counts, counts, ("cat",), np.random.default_rng(0))

    assert message_of(lambda: compared(none)) == "there is no image to compare on"
    assert compared(one)[0].gain == 0


TESTED = {
    "chains.py": ["there is no chain", "on other images than the others"],
    "confusion.py": ["holds"],
    "ground_truth.py": ["{path} {wrong}"],
    "metrics.py": ["class_groups."],
    "paired.py": ["there is no image"],
    "placing.py": [
        *("cannot be read as a mask", "ValueError(wrong)", "the first such pixel is at"),
        *("fractions", "leave 0..65535"),
    ],
    "splits.py": ["was made from other images", "rerun the stage"],
}
"""What the messages above begin with or hold, by the file that raises them."""


def test_every_message_of_the_package_is_tested_here() -> None:
    (folder,) = evaluate.__path__
    for path in sorted(Path(folder).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        raised = [
            ast.unparse(node.exc)
            for node in ast.walk(tree)
            if isinstance(node, ast.Raise) and node.exc is not None
        ]
        told = TESTED.get(path.name, [])
        assert len(raised) == len(told), f"test what a new message of {path.name} tells"
        assert all(any(part in text for text in raised) for part in told)


def test_a_mask_to_learn_from_says_where_its_first_wrong_pixel_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_label_png(path, np.array([[0, 1, 255], [1, 9, 9]], np.uint8))
    assert "first such pixel is at x 1, y 1" in message_of(lambda: read_mask(path, {}, 2))
    assert "holds the values 1, 255" in message_of(lambda: read_mask(path, {0: 0, 9: 2}, 2))
    assert "at x 1, y 0" in message_of(lambda: read_mask(path, {0: 0, 9: 2}, 2))
    meant, turned = read_mask(path, {0: 0, 1: 1, 255: 255, 9: 2}, 2)
    assert meant.tolist() == [[0, 1, 255], [1, 2, 2]] and not turned
    Image.fromarray(np.array([[[9, 0, 0], [0, 0, 0]]], np.uint8)).save(path)
    assert "has colours, such as #000000" in message_of(lambda: read_mask(path, {}, 2))
    path.write_bytes(b"broken")
    assert "cannot be read as a mask" in message_of(lambda: read_mask(path, {}, 2))
