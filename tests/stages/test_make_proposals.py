"""The stage on a few images: what it writes, keeps, resumes and reports."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Proposals,
    Sample,
    ScoreMap,
    read_json,
    read_proposals,
    read_score_map,
    write_proposals,
    write_score_map,
)
from wsss.config.params import parse_params
from wsss.proposals.superpixels import Superpixels, SuperpixelsSettings
from wsss.stages import make_proposals, run_stage

COARSE = {"name": "superpixels", "felzenszwalb_scales": [300], "slic_segments": []}
FINE = {"name": "superpixels", "felzenszwalb_scales": [], "slic_segments": [30]}
NAMES = ("a", "deep/b", "c")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """An image in each split, one of them in a folder."""
    paths = Paths(tmp_path)
    splits: dict[str, tuple[Sample, ...]] = {}
    for split, name in zip(("train", "selection", "val"), NAMES, strict=True):
        file = paths.images / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(splits)).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(file)
        splits[split] = (Sample(name, f"{name}.png", (20, 30), (1,)),)
    Manifest(("x",), splits).write(paths.splits)
    return paths


def make(paths: Paths, **sources: Any) -> Any:
    """Run the stage; the report."""
    params = parse_params({"machine": {"accelerator": "cpu"}, "make_proposals": sources})
    run_stage("make_proposals", params, paths)
    return read_json(paths.report("make_proposals"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The source's level of each image that is worked on."""
    seen: list[str] = []
    original = Superpixels.__call__

    def counted(self: Superpixels, image: np.ndarray) -> Proposals:
        seen.append("coarse" if self.settings.felzenszwalb_scales else "fine")
        return original(self, image)

    monkeypatch.setattr(Superpixels, "__call__", counted)
    return seen


def test_every_image_of_every_split_has_the_masks_of_every_source(paths: Paths) -> None:
    report = make(paths, coarse=COARSE, fine=FINE)
    for source, values in (("coarse", COARSE), ("fine", FINE)):
        counts = []
        for name in NAMES:
            found = read_proposals(paths.proposals / source / f"{name}.npz")
            image = np.asarray(Image.open(paths.images / f"{name}.png"))
            settings = SuperpixelsSettings.model_validate(values)
            expected = Superpixels(settings, lambda: pytest.fail("no device"))(image)
            np.testing.assert_array_equal(found.starts, expected.starts)
            counts.append(len(expected))
        assert report[source] == {
            "num_images": 3,
            "num_proposals": sum(counts),
            "fewest": min(counts),
            "most": max(counts),
        }


@pytest.mark.parametrize(("bare", "said"), [(1, False), (2, True), (3, True)])
def test_images_without_proposals_are_told(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, bare: int, said: bool
) -> None:
    """Of SAM with the thresholds that decide it, of others with the source."""

    class Picky:
        parallel = False

        def __init__(self, *_: object) -> None:
            pass

        def __call__(self, image: np.ndarray) -> Proposals:
            return Proposals.from_masks(np.ones((next(given), *image.shape[:2]), bool))

    sam = {"name": "sam", "checkpoint": "sam.pth"}
    ways = {
        "mine": (sam, "lower make_proposals.mine.pred_iou_thresh or stability_score_thresh"),
        "other": (COARSE, "change make_proposals.other"),
    }
    monkeypatch.setattr(make_proposals.PROPOSALS, "build", Picky)
    for name, (source, way) in ways.items():
        given = iter([0] * bare + [1] * (3 - bare))
        for _ in range(2):  # the second time it is up to date
            warnings = make(paths, **{name: source}).get("warnings", [])
            assert len(warnings) == said
            for text in warnings:
                assert text.startswith(f"{name}: {bare} of 3 images")
                assert text.endswith(way)


def test_without_sources_there_is_an_empty_folder(paths: Paths) -> None:
    assert make(paths) == {}
    assert [path.name for path in paths.proposals.iterdir()] == [".empty"]


def test_a_source_that_did_not_change_is_kept(paths: Paths, calls: list[str]) -> None:
    make(paths, coarse=COARSE, fine=FINE)
    calls.clear()
    make(paths, coarse=COARSE, fine=FINE | {"slic_segments": [20]})
    assert calls == ["fine"] * 3
    calls.clear()
    report = make(paths, coarse=COARSE)
    assert calls == [] and list(report) == ["coarse"]
    assert [path.name for path in paths.proposals.iterdir()] == ["coarse"]


def test_other_pixels_are_worked_on_anew(paths: Paths, calls: list[str]) -> None:
    make(paths, coarse=COARSE)
    Image.new("RGB", (30, 20)).save(paths.images / "a.png")
    make(paths, coarse=COARSE)
    assert calls == ["coarse"] * 6
    assert len(read_proposals(paths.proposals / "coarse/a.npz")) == 1


def test_what_a_killed_run_has_done_is_not_done_again(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    def killed(path: Path, proposals: Proposals) -> None:
        if path.stem == "b":
            raise KeyboardInterrupt
        write_proposals(path, proposals)

    monkeypatch.setattr(make_proposals, "write_proposals", killed)
    with pytest.raises(KeyboardInterrupt):
        make(paths, coarse=COARSE)
    assert not (paths.proposals / "coarse").exists()
    calls.clear()
    monkeypatch.setattr(make_proposals, "write_proposals", write_proposals)
    assert make(paths, coarse=COARSE)["coarse"]["num_images"] == 3
    assert len(calls) == 2


def test_the_refiner_finds_them(paths: Paths) -> None:
    scores = np.random.default_rng(0).random((1, 5, 6)).astype(np.float32)
    for name in NAMES:
        score_map = ScoreMap(np.array([1], np.uint8), scores, (20, 30), np.ones(1, np.float32))
        write_score_map(paths.cams / f"{name}.npz", score_map)
    chains = {"crf": [{"name": "regions", "proposals": "fine"}]}
    values = {"make_proposals": {"fine": FINE}, "refine": {"chains": chains}}
    params = parse_params({"machine": {"accelerator": "cpu"}} | values)
    with pytest.raises(ValueError, match="run make_proposals"):
        run_stage("refine_cams@crf", params, paths)
    run_stage("make_proposals", params, paths)
    run_stage("refine_cams@crf", params, paths)
    for name in NAMES:
        refined = read_score_map(paths.refined("crf") / f"{name}.npz").scores[0]
        found = read_proposals(paths.proposals / "fine" / f"{name}.npz")
        flat, matrix = refined.reshape(-1), found.matrix()
        assert all(np.ptp(flat[matrix[[mask]].indices]) == 0 for mask in range(len(found)))


def test_processes_write_the_same_bytes(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> dict[str, bytes]:
        folder = paths.proposals / "fine"
        return {str(path): path.read_bytes() for path in sorted(folder.rglob("*.npz"))}

    make(paths, fine=FINE)
    alone = files()
    make(paths)
    monkeypatch.setattr(make_proposals, "_MIN_JOBS", 1)
    monkeypatch.setattr(make_proposals, "usable_cores", lambda: 2)
    make(paths, fine=FINE)
    assert len(alone) == 3 and files() == alone


@pytest.mark.parametrize("parallel", [True, False])
def test_only_a_source_that_allows_it_is_shared_by_processes(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, parallel: bool
) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("processes")

    monkeypatch.setattr(make_proposals, "ProcessPoolExecutor", refused)
    monkeypatch.setattr(make_proposals, "_MIN_JOBS", 1)
    monkeypatch.setattr(make_proposals, "usable_cores", lambda: 2)
    monkeypatch.setattr(Superpixels, "parallel", parallel)
    if parallel:
        with pytest.raises(RuntimeError, match="processes"):
            make(paths, fine=FINE)
    else:
        make(paths, fine=FINE)
