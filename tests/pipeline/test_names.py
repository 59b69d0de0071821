"""Names of scores."""

from wsss.config.params import parse_params
from wsss.pipeline.names import score_label
from wsss.stages import find_stages


def test_evaluations_are_named_after_what_they_score() -> None:
    params = parse_params({"make_pseudo_masks": {"chain": "per_class"}})
    targets = [target for target in find_stages().targets(params) if target.stage.evaluates]
    assert [score_label(target) for target in targets] == [
        *("cam", *params.refine.chains, "per_class", "pseudo", "segmenter"),
    ]
