"""What stages say of maps and masks that show nothing, however they came to be."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    as_stored,
    read_json,
    write_label_png,
    write_score_map,
)
from wsss.config.params import Params, parse_params
from wsss.pipeline import Job
from wsss.stages import find_stages, make_pseudo_masks, refine_cams, run_stage
from wsss.stages._warnings.tally import (
    Tally,
    map_faults,
    map_tally,
    map_values,
    mask_faults,
    mask_tally,
    prediction_warnings,
)
from wsss.tracking import NullTracker


def job_of(paths: Paths, params: Params, name: str) -> Job:
    pipeline = find_stages()
    return Job(pipeline, pipeline.target(name, params), params, paths, NullTracker())


def changed(params: Params, **sections: Any) -> Params:
    tree = params.model_dump(mode="json")
    for name, values in sections.items():
        tree[name] |= values
    return parse_params(tree)


def rewrite(paths: Paths, make: Any) -> None:
    """Give the images other maps, of the class of each."""
    for sample in Manifest.read(paths.splits).all_samples():
        ids = np.array(sample.class_ids, np.uint8)
        scores = np.zeros((len(ids), *sample.size), np.float32)
        scores[:] = make(sample)
        found = ScoreMap(ids, scores, sample.size, np.ones(len(ids), np.float32))
        for folder in (paths.cams, paths.refined("none")):
            write_score_map(folder / f"{sample.name}.npz", found)


def test_empty_maps_are_counted_per_class(defects_at_chance: Paths, chance_params: Params) -> None:
    run_stage("refine_cams@none", chance_params, defects_at_chance)
    report = read_json(defects_at_chance.report("refine_cams_none"))
    (text,) = report["warnings"]
    assert text.startswith("39 of 60 (65 %) maps of an image's own tag are empty: 'dent' 9")
    assert "refine.chains.none" in text
    empty = report["classes"]["empty_maps"]
    assert sum(empty.values()) == 39 and empty["hole"] == 9
    assert report["num_images"] == 75


def test_maps_that_are_the_same_everywhere_are_counted_per_class(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    rewrite(defects_at_chance, lambda sample: 0.7 if sample.class_ids == (2,) else np.eye(20, 24))
    run_stage("refine_cams@none", chance_params, defects_at_chance)
    report = read_json(defects_at_chance.report("refine_cams_none"))
    (text,) = report["warnings"]
    assert "12 of 60 (20 %)" in text and "same or high everywhere: 'dent' 12 of 12;" in text
    assert report["classes"] == {"full_maps": {"dent": 12}}


def test_a_few_such_maps_are_reported_and_no_warning(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    named = {"train00", "selection05", "val12"}
    rewrite(defects_at_chance, lambda sample: 0 if sample.name in named else np.eye(20, 24))
    run_stage("refine_cams@none", chance_params, defects_at_chance)
    report = read_json(defects_at_chance.report("refine_cams_none"))
    assert report == {"num_images": 75, "classes": {"empty_maps": {"crack": 2, "hole": 1}}}


@pytest.mark.parametrize("stage", ["refine_cams@none", "make_pseudo_masks"])
def test_a_killed_run_says_at_its_end_what_a_whole_one_says(
    defects_at_chance: Paths, chance_params: Params, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of results that an earlier run left, too."""
    params = changed(chance_params, make_pseudo_masks={"threshold": 0.999})
    module, name = {
        "refine_cams@none": (refine_cams, "write_score_map"),
        "make_pseudo_masks": (make_pseudo_masks, "write_label_png"),
    }[stage]
    report = defects_at_chance.report(stage.replace("@", "_"))
    run_stage(stage, params, defects_at_chance)
    whole, write, count = report.read_bytes(), getattr(module, name), 0
    report.unlink()

    def stop(path: Path, *args: Any) -> None:
        nonlocal count
        count += 1
        if count > 40:
            raise KeyboardInterrupt
        write(path, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, name, stop)
        run_stage(stage, params, defects_at_chance)
    assert not report.exists()
    run_stage(stage, params, defects_at_chance)
    assert report.read_bytes() == whole and b"warnings" in whole


@given(
    highest=st.sampled_from([1.0, 0.5, 0.011, 0.009, 1e-5, 1e-31, 0.0]) | st.floats(0, 1, width=32),
    share=st.floats(0, 1, width=32) | st.sampled_from([0.5, 0.4999, 0.498, 0.502]),
)
def test_a_map_has_the_same_faults_in_memory_and_in_its_file(highest: float, share: float) -> None:
    scores = np.array([[[highest, highest * share]]], np.float32)
    found = ScoreMap(np.ones(1, np.uint8), scores, (1, 2), np.ones(1, np.float32))
    sample = Sample("a", "a.png", (1, 2), (1,))
    assert map_faults(sample, found) == map_faults(sample, as_stored(found))


def test_the_maps_of_a_handful_of_images_say_nothing(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    manifest = Manifest.read(defects_at_chance.splits)
    few = replace(
        manifest, splits={"train": manifest.splits["train"][:9], "selection": (), "val": ()}
    )
    job, tally = job_of(defects_at_chance, chance_params, "generate_cams"), map_tally()
    tally.complete(few.all_samples(), defects_at_chance.cams)
    assert map_values(job, tally, few, "") == {} and not job.warnings


@pytest.mark.parametrize(
    ("threshold", "wanted"),
    [(1.0, "60 of 60 (100 %) pseudo masks of tagged images show none"), (0.5, "39 of 60 (65 %)")],
)
def test_pseudo_masks_without_their_tag_are_said(
    defects_at_chance: Paths, chance_params: Params, threshold: float, wanted: str
) -> None:
    params = changed(chance_params, make_pseudo_masks={"threshold": threshold})
    run_stage("make_pseudo_masks", params, defects_at_chance)
    (text,) = read_json(defects_at_chance.report("make_pseudo_masks"))["warnings"]
    assert wanted in text and "make_pseudo_masks.threshold" in text


def test_pseudo_masks_that_are_ignored_are_said(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    rewrite(defects_at_chance, lambda sample: 0.3)
    params = changed(chance_params, make_pseudo_masks={"threshold": 0.3, "ignore_margin": 0.2})
    run_stage("make_pseudo_masks", params, defects_at_chance)
    warnings = read_json(defects_at_chance.report("make_pseudo_masks"))["warnings"]
    assert "60 of 75 (80 %) pseudo masks are ignored nearly everywhere" in warnings[1]


def test_good_pseudo_masks_have_no_warning(defects_at_chance: Paths, chance_params: Params) -> None:
    rewrite(defects_at_chance, lambda sample: np.eye(20, 24))
    params = changed(chance_params, make_pseudo_masks={"threshold": 0.5})
    run_stage("make_pseudo_masks", params, defects_at_chance)
    assert "warnings" not in read_json(defects_at_chance.report("make_pseudo_masks"))


def predicted(
    paths: Paths, params: Params, samples: Sequence[Sample], classes: Sequence[int]
) -> list[str]:
    """What is said of predictions of these classes, each on a part of an image."""
    job, tally = job_of(paths, params, "predict_masks"), mask_tally()
    for sample, class_id in zip(samples, classes, strict=True):
        mask = np.zeros(sample.size, np.uint8)
        mask[:2] = class_id
        tally.note(sample, mask)
    prediction_warnings(job, tally, Manifest.read(paths.splits), ["val"])
    return job.warnings


def test_predictions_of_background_and_classes_never_found_are_said(
    defects_at_chance: Paths, chance_params: Params
) -> None:
    manifest = Manifest.read(defects_at_chance.splits)
    two = tuple(
        replace(sample, class_ids=(index % 2 + 1,) if sample.class_ids else ())
        for index, sample in enumerate(manifest.splits["val"])
    )
    replace(manifest, splits=manifest.splits | {"val": two}).write(defects_at_chance.splits)
    (text,) = predicted(defects_at_chance, chance_params, two, [0] * 25)
    assert "val: 20 of 20 (100 %) tagged images show none of their tags; see" in text
    (text,) = predicted(defects_at_chance, chance_params, two, [1] * 25)
    assert "no image shows 'dent' where it is tagged" in text and "10 of 20" in text
    right = [sample.class_ids[0] if sample.class_ids else 0 for sample in two]
    assert not predicted(defects_at_chance, chance_params, two, right)


def test_what_others_made_is_read_once_from_its_file(tmp_path: Path) -> None:
    samples = [Sample(name, f"{name}.png", (1, 4), (1,)) for name in "abc"]
    for sample in samples:
        write_label_png(tmp_path / f"{sample.name}.png", np.zeros((1, 4), np.uint8))
    looked: list[str] = []

    def look(sample: Sample, mask: np.ndarray) -> list[tuple[str, int]]:
        looked.append(sample.name)
        return mask_faults(sample, mask)

    tally = Tally(look, mask_tally().read, ".png")
    tally.note(samples[0], np.ones((1, 4), np.uint8))
    tally.add([({"b"}, {"b": [("lost", 1)]})])
    tally.complete(samples, tmp_path)
    assert looked == ["a", "c"]
    assert tally.found == {"b": [("lost", 1)], "c": [("lost", 1), ("bare", 0)]}
