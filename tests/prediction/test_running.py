"""Folders of masks: the right ones, once each, whatever happens in between."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import palette, read_label_png
from wsss.prediction import Model, Predicted, open_model
from wsss.prediction.record import Record
from wsss.prediction.running import FolderPrediction, Outcome
from wsss.prediction.sources import find_sources
from wsss.report.overlays import overlay_mask

Write = Callable[..., np.ndarray]


@pytest.fixture
def photos(tmp_path: Path, write_image: Write) -> dict[str, np.ndarray]:
    """The masks of images of several sizes by name, in photos/."""
    sizes = {"a": (32, 64), "b": (64, 32), "c": (32, 64), "d/e": (96, 96), "f": (32, 64)}
    folder = tmp_path / "photos"
    return {name: write_image(folder / f"{name}.png", size) for name, size in sizes.items()}


class Counted:
    """A model that notes the batches it gets, and may stop."""

    def __init__(self, model: Model, stop_at: int = 0) -> None:
        self.model, self.stop_at = model, stop_at
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, images: Any, **options: Any) -> list[Predicted]:
        self.batches.append(len(images))
        if len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        return self.model.predict(images, **options)


def predicted(
    model: Any, folder: Path, out: Path, tags: Any = None, **options: Any
) -> dict[str, Outcome]:
    sources = find_sources([str(folder)], without=out).found
    allowed = {source.name: (tags or {}).get(source.name) for source in sources}
    run = FolderPrediction(model, Record(out, model), tags=allowed, **options)
    jobs, failed = run.look(sources)
    return {outcome.name: outcome for outcome in (*failed, *run.predict(jobs))}


def test_a_folder_that_is_named_by_another_way_is_the_same(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    first = predicted(model, tmp_path / "photos", tmp_path / "out")
    entries = tmp_path / "out/masks.jsonl"
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = predicted(model, Path("../photos"), Path("../out"))
    assert {name: one.is_new for name, one in again.items()} == dict.fromkeys(first, False)
    assert not any(one.reason for one in again.values()), entries


def test_each_image_has_its_mask(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    counted = Counted(model)
    found = predicted(counted, tmp_path / "photos", tmp_path / "out")
    assert counted.batches == [1, 2, 1, 1]  # by size, at most two
    for name, mask in photos.items():
        assert np.array_equal(read_label_png(tmp_path / f"out/{name}.png"), mask)
        assert found[name].pixels == tuple(np.bincount(mask.ravel(), minlength=3))
        assert found[name].is_new and not found[name].reason
    with Image.open(tmp_path / "out/a.png") as picture:
        colours = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)
    assert np.array_equal(colours, palette()[: len(colours)])
    known = json.loads((tmp_path / "out/predict.json").read_text())
    assert [(item["id"], item["name"]) for item in known["classes"]] == [(1, "red"), (2, "green")]


def test_what_was_stopped_goes_on_with_the_same_bytes(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        predicted(Counted(model, stop_at=3), tmp_path / "photos", tmp_path / "out")
    first = {path.name for path in (tmp_path / "out").rglob("*.png")}
    assert first == {"e.png", "a.png", "c.png"}
    counted = Counted(model)
    found = predicted(counted, tmp_path / "photos", tmp_path / "out")
    assert counted.batches == [1, 1]
    assert sorted(name for name, outcome in found.items() if outcome.is_new) == ["b", "f"]
    predicted(model, tmp_path / "photos", tmp_path / "whole")
    for name, mask in photos.items():
        file = f"{name}.png"
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
        assert found[name].pixels == tuple(np.bincount(mask.ravel(), minlength=3))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_batch_that_is_done_in_part_runs_whole(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predicted(model, tmp_path / "photos", out)
    kept = (out / "a.png").stat().st_mtime_ns
    (out / "c.png").unlink()
    counted = Counted(model)
    found = predicted(counted, tmp_path / "photos", out)
    assert counted.batches == [2]
    assert [name for name, outcome in found.items() if outcome.is_new] == ["c"]
    assert (out / "a.png").stat().st_mtime_ns == kept


def test_images_and_tags_that_changed_are_predicted_again(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path, write_image: Write
) -> None:
    out, folder = tmp_path / "out", tmp_path / "photos"
    predicted(model, folder, out)
    changed = write_image(folder / "b.png", (32, 32))
    found = predicted(model, folder, out, tags={"a": ("red",)})
    assert sorted(name for name, outcome in found.items() if outcome.is_new) == ["a", "b"]
    assert np.array_equal(read_label_png(out / "b.png"), changed)
    assert set(np.unique(read_label_png(out / "a.png"))) == {0, 1}
    assert (read_label_png(out / "a.png") == 1)[photos["a"] == 1].all()
    (out / "a.png").write_bytes(b"")  # noted, and changed by hand: it is believed
    assert not predicted(model, folder, out, tags={"a": ("red",)})["a"].is_new


def test_a_record_that_was_cut_off_is_mended(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predicted(model, tmp_path / "photos", out)
    rows = out / "predict.jsonl"
    rows.write_bytes(rows.read_bytes()[:-20])  # of the last, whose files follow its line
    (out / "b.png").unlink()
    found = predicted(model, tmp_path / "photos", out)
    assert sum(outcome.is_new for outcome in found.values()) == 1
    assert len(rows.read_text().splitlines()) == 5
    rows.write_text('{"name": 3}\n')
    with pytest.raises(ValueError, match=r"predict\.jsonl, line 1: not what `wsss predict` writes"):
        predicted(model, tmp_path / "photos", out)


def test_another_model_and_other_settings_are_refused(
    model: Model, project: Path, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predicted(model, tmp_path / "photos", out)
    other = open_model(project, "cpu", {"predict_masks.flip": True, "predict_masks.batch_size": 1})
    said = r"out holds masks of other settings \(predict_masks\.flip was false and is true\)"
    with pytest.raises(ValueError, match=said):
        Record(out, other)
    shrinking = open_model(project, "cpu", {"prepare_data.long_side_max": 64})
    with pytest.raises(ValueError, match=r"prepare_data\.long_side_max was 0 and is 64"):
        Record(out, shrinking)
    Record(out, open_model(project, "cpu", {"predict_masks.batch_size": 1}))
    copy = shutil.copytree(project, tmp_path / "copy")
    weights = copy / "models/segmenter/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\x80\x3f")
    with pytest.raises(ValueError, match="out holds masks of another model"):
        Record(out, open_model(copy, "cpu"))


def test_nothing_of_others_is_written_over(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path, write_image: Write
) -> None:
    folder = tmp_path / "photos"
    with pytest.raises(ValueError, match="5 files are there that no prediction has made"):
        sources = find_sources([str(folder)]).found
        tags = dict.fromkeys(source.name for source in sources)
        FolderPrediction(model, Record(folder, model), tags=tags).look(sources)
    write_image(tmp_path / "others/a.png")
    out = tmp_path / "out"
    predicted(model, folder, out)
    with pytest.raises(ValueError, match=r"out/a is of .*photos/a\.png, and .*others/a\.png would"):
        predicted(model, tmp_path / "others", out)
    (out / "a.npz").write_text("of somebody")  # where probabilities would go that nobody asked for
    predicted(model, folder, out)
    with pytest.raises(ValueError, match=r"1 files are there .*a\.npz"):
        predicted(model, folder, out, probs=True)
    assert (out / "a.npz").read_text() == "of somebody"


def test_a_file_that_fails_does_not_stop_the_rest(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    whole = (folder / "c.png").read_bytes()
    (folder / "c.png").write_bytes(whole[: len(whole) // 2])  # known after its header alone
    (folder / "page.jpg").write_text("<!DOCTYPE html>")
    found = predicted(model, folder, tmp_path / "out")
    reasons = {Path(name).name: item.reason for name, item in found.items() if item.reason}
    assert reasons.keys() == {"c.png", "page.jpg"}
    assert reasons["page.jpg"] == "the file is a web page, and no image"
    assert "truncated" in reasons["c.png"]
    assert {path.stem for path in (tmp_path / "out").rglob("*.png")} == {"a", "b", "e", "f"}
    (folder / "c.png").write_bytes(whole)
    again = predicted(model, folder, tmp_path / "out")
    assert [name for name, item in again.items() if item.is_new] == ["c"]


def test_too_little_memory_is_of_one_image_alone(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    class Small(Counted):
        def predict(self, images: Any, **options: Any) -> list[Predicted]:
            if len(images) > 1 or images[0].shape[0] == 96:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 9 bytes")
            return super().predict(images, **options)

    small = Small(model)
    found = predicted(small, tmp_path / "photos", tmp_path / "out")
    (failed,) = [item for item in found.values() if item.reason]
    assert failed.name.endswith("e.png") and "--set predict_masks.window=1024" in failed.reason
    assert small.batches == [1, 1, 1, 1]

    class Broken(Counted):
        def predict(self, images: Any, **options: Any) -> list[Predicted]:
            raise RuntimeError("a fault of the code")

    with pytest.raises(RuntimeError, match="a fault of the code"):
        predicted(Broken(model), tmp_path / "photos", tmp_path / "other")


def test_pictures_and_probabilities_lie_beside(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predicted(model, tmp_path / "photos", out)
    found = predicted(model, tmp_path / "photos", out, draw=overlay_mask, probs=True)
    assert all(outcome.is_new for outcome in found.values())  # masks were there alone
    for name, mask in photos.items():
        with np.load(out / f"{name}.npz") as held:
            probs, classes = held["probs"], held["classes"]
        assert probs.dtype == np.float16 and probs.shape == (3, *mask.shape)
        assert np.array_equal(probs.argmax(axis=0), mask)
        assert classes.tolist() == ["background", "red", "green"]
        image = np.asarray(Image.open(tmp_path / f"photos/{name}.png"))
        file = io.BytesIO()
        Image.fromarray(overlay_mask(image, mask)).save(file, format="JPEG", quality=90)
        assert (out / f"{name}.overlay.jpg").read_bytes() == file.getvalue()
    kept = predicted(model, tmp_path / "photos", out)
    assert not any(outcome.is_new for outcome in kept.values())


def test_a_batch_has_so_many_pixels(
    model: Model, tmp_path: Path, write_image: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsss.prediction.running.AT_ONCE", 32 * 64)
    for name in "ab":
        write_image(tmp_path / f"photos/{name}.png", (32, 64))
        write_image(tmp_path / f"photos/{name}{name}.png", (32, 32))
    counted = Counted(model)
    predicted(counted, tmp_path / "photos", tmp_path / "out")
    assert counted.batches == [1, 1, 2]


def test_memory_does_not_grow_with_the_number_of_images(
    model: Model, tmp_path: Path, write_image: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twenty batches no more than three are read and not yet written."""
    for number in range(20):
        write_image(tmp_path / f"photos/{number:02}.png", (32, 32 + 32 * (number % 10)))
    from wsss.prediction.reading import Reader

    read, written, most = [0], [0], [0]
    plain = Reader.read

    def noted(self: Reader, path: Path) -> Any:
        read[0] += 1
        most[0] = max(most[0], read[0] - written[0])
        return plain(self, path)

    monkeypatch.setattr(Reader, "read", noted)
    sources = find_sources([str(tmp_path / "photos")]).found
    tags = dict.fromkeys(source.name for source in sources)
    run = FolderPrediction(model, Record(tmp_path / "out", model), tags=tags)
    for _ in run.predict(run.look(sources)[0]):
        written[0] += 1
    assert read == written == [20]
    assert most[0] <= 6  # of batches of two


def test_frames_of_a_video(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colours = np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 3, (32, 32)).astype(np.uint8) for _ in range(9)]
    monkeypatch.setattr("wsss.prediction.reading.find_spec", lambda name: name)
    monkeypatch.setattr("imageio.v3.imiter", lambda path: (colours[mask] for mask in masks))
    video = tmp_path / "videos/clip.mp4"
    video.parent.mkdir()
    video.write_bytes(b"video")
    sources = find_sources([str(video)]).found
    for stop_at in (2, 0):
        counted = Counted(model, stop_at)
        run = FolderPrediction(
            counted, Record(tmp_path / "out", model), tags={"clip": None}, every=2
        )
        jobs, failed = run.look(sources)
        assert len(jobs) == 1 and not failed
        if stop_at:
            with pytest.raises(KeyboardInterrupt):
                list(run.predict(jobs))
            continue
        found = list(run.predict(jobs))
        assert counted.batches == [2, 1]  # of five frames two were done
    assert [outcome.name for outcome in found] == [f"clip/{at:06}" for at in range(0, 9, 2)]
    assert [outcome.is_new for outcome in found] == [False, False, True, True, True]
    for at in range(0, 9, 2):
        assert np.array_equal(read_label_png(tmp_path / f"out/clip/{at:06}.png"), masks[at])
    monkeypatch.setattr("imageio.v3.imiter", lambda path: iter(()))
    run = FolderPrediction(model, Record(tmp_path / "b", model), tags={"clip": None})
    (outcome,) = run.predict(run.look(sources)[0])
    assert outcome.reason == "it has no frames"


def test_an_image_that_goes_away_is_a_failed_one(
    model: Model, photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    sources = find_sources([str(tmp_path / "photos")]).found
    run = FolderPrediction(model, Record(tmp_path / "out", model), tags=dict.fromkeys(photos))
    jobs, _ = run.look(sources)
    (tmp_path / "photos/a.png").unlink()
    found = {item.name: item for item in run.predict(jobs)}
    assert found[str(tmp_path / "photos/a.png")].reason == "the file does not exist"
    assert sum(item.is_new for item in found.values()) == 4
