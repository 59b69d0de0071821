"""A classifier that goes with a registered segmenter is read from there, too."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import wsss
from wsss.artifacts import Paths
from wsss.config.params import load_params
from wsss.serving.registering import register_segmenter


def test_the_filter_of_classes_of_a_registered_model_makes_maps(
    project: Path, rescore: Callable[[Path], None]
) -> None:
    register_segmenter(project, load_params(), "wsss")
    with pytest.raises(ValueError, match=r"models:/wsss has a segmenter alone, which wsss\.load_"):
        wsss.load_classifier("models:/wsss")
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["predict_masks"] |= {"filter_recall": 1, "filter_long_side": 48}
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    rescore(project)
    version, _ = register_segmenter(project, load_params(), "wsss")
    places = ("models:/wsss/2", f"runs:/{version.run_id}/model", project)
    image = Paths(project).images / "a.png"
    maps = [
        wsss.cams(wsss.load_classifier(place), image, ["x", "y"], scales=[1.0]) for place in places
    ]
    for found in maps:
        assert found.tags == ("x", "y") and (found["y"] == maps[-1]["y"]).all()
