"""How a run is named and described."""

import subprocess
from pathlib import Path

import pytest

from wsss.config.params import Params, parse_params
from wsss.pipeline.origin import committed_params, target_changes
from wsss.stages import find_stages


def params(**chains: list[dict[str, object]]) -> Params:
    return parse_params({"refine": {"chains": chains}, "make_pseudo_masks": {"chain": "crf"}})


def changes(name: str, now: Params, before: Params | None) -> dict[str, str]:
    pipeline = find_stages()
    return target_changes(pipeline, pipeline.target(name, now), now, before)


@pytest.mark.parametrize(
    ("stage", "knows"),
    [
        ("generate_cams", False),
        ("refine_cams@crf", True),
        ("refine_cams@none", False),
        ("evaluate_refined@crf", True),
        ("evaluate_segmenter", True),
    ],
)
def test_runs_differ_in_what_they_or_a_stage_before_them_read(stage: str, knows: bool) -> None:
    before = params(none=[], crf=[{"name": "dense_crf", "sigma_rgb": 10}])
    now = params(none=[], crf=[{"name": "dense_crf", "sigma_rgb": 13}])
    found = changes(stage, now, before)
    assert found == ({"refine.chains.crf.0.sigma_rgb": "13.0"} if knows else {})
    assert changes(stage, now, None) == {}


def test_a_new_chain_is_named_as_new() -> None:
    before = params(crf=[])
    now = params(crf=[], mine=[{"name": "pamr"}])
    assert changes("evaluate_refined@mine", now, before) == {"refine.chains.mine": "new"}


def test_what_the_last_commit_has_is_read_where_it_can_be(tmp_path: Path) -> None:
    assert committed_params(tmp_path) is None  # no repository
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run([*git, "init", "--quiet"], check=True)
    folder = tmp_path / "below"
    folder.mkdir()
    for text, seed in (("base: {rng_seed: 5}", 5), ("base: {rgn_seed: 5}", None)):
        (folder / "params.yaml").write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", "a"], check=True)
        found = committed_params(folder)
        assert (found.base.rng_seed if found else None) == seed
