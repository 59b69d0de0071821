"""Copies among images, against a comparison of each with each."""

import numpy as np

from wsss.data import RawSample
from wsss.stages._same_files import same_files, same_files_remarks, same_files_warnings


def test_copies_are_found_as_by_comparing_each_with_each(tmp_path):
    rng = np.random.default_rng(0)
    head = rng.bytes(70_000)
    contents = [head + b"a", head + b"b", head, b"a", b"b", b"ab", b""]
    lists = {}
    for split in ("train", "val"):
        lists[split] = []
        for at in range(12):
            path = tmp_path / f"{split}{at}.png"
            path.write_bytes(contents[rng.integers(len(contents))])
            lists[split].append(RawSample(path.stem, path, (1,)))
    lists["val"].append(RawSample("gone", tmp_path / "gone.png", ()))
    held = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    pairs = {(a, b) for a in held for b in held if a < b and held[a] == held[b]}
    groups = same_files(lists)
    names = [[sample.name for _, sample in group] for group in groups]
    assert {(a, b) for group in names for a in group for b in group if a < b} == pairs
    assert all(split == sample.name[: len(split)] for group in groups for split, sample in group)


def test_what_is_said_of_copies(tmp_path):
    def group(*placed):
        return [(split, RawSample(name, tmp_path, ids)) for split, name, ids in placed]

    across = group(("train", "a", (1,)), ("val", "b", (1,)))
    within = group(("train", "c", (1,)), ("train", "d", (1,)))
    apart = group(("train", "e", (1,)), ("train", "f", (2,)))
    assert same_files_warnings([within]) == [] == same_files_remarks([across])
    (said,) = same_files_warnings([across, within])
    assert "'a' (train), 'b' (val)" in said
    (said,) = same_files_warnings([within, apart])
    assert "other tags, such as 'e' (train), 'f' (train)" in said
    (said,) = same_files_remarks([across, within])
    assert "'c' (train), 'd' (train)" in said
