"""Which weights settings name, and under which licence: what is known cannot be replaced."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from timm.models import get_pretrained_cfg

from wsss.cards.weights import weights_of, with_licences
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.models.known_weights import UNKNOWN, known_weights
from wsss.pipeline.graph import plain

ROOT = Path(__file__).parents[2]


def recipe(weights: str, **backbone: str) -> dict[str, object]:
    own = {"model_name": "resnet18", "weights": weights} | backbone
    return {"train_classifier": {"backbone": own}, "base": {"rng_seed": 1}}


def test_timm_says_the_licence_itself() -> None:
    (found,) = weights_of(recipe("hub"))
    assert found.key == "train_classifier.backbone.weights"
    assert found.licence == get_pretrained_cfg("resnet18").license
    assert found.facts.trained_on == "ImageNet-1k" and found.facts.pixels == "none"
    assert not found.is_limited and not found.is_unknown


def test_a_licence_that_forbids_uses_is_seen() -> None:
    (found,) = weights_of(recipe("hub", model_name="convnextv2_atto.fcmae_ft_in1k"))
    assert found.licence == "cc-by-nc-4.0" and found.is_limited


@pytest.mark.parametrize("name", ["mit", "apache-2.0", "bsd-3-clause", "cc-by-4.0"])
def test_a_free_licence_is_none(name: str) -> None:
    found = with_licences(weights_of(recipe("a/mine.pth")), {"mine.pth": name})
    assert found[0].licence == name and not found[0].is_limited and found[0].said_by == "a person"


def test_tags_of_two_data_sets() -> None:
    facts = known_weights("hub", "vit_base_patch16_224")  # augreg2_in21k_ft_in1k
    assert facts is not None and facts.trained_on == "ImageNet-21k, then ImageNet-1k"


def test_weights_at_every_depth_and_random_values_nowhere() -> None:
    tree = {
        **recipe("none"),
        "refine": {"chains": {"a": [{"name": "vit_affinity", "weights": "$X/own.pth"}]}},
        "make_proposals": {"s": {"name": "sam", "checkpoint": "/w/sam_vit_b_01ec64.pth"}},
        "further_cams": {"c": {"method": {"name": "clip_es", "weights": "openai"}}},
        "train_segmenter": {"model": {"encoder": "classifier", "encoder_weights": "classifier"}},
    }
    found = {item.key: item for item in weights_of(tree)}
    assert {key: item.licence for key, item in found.items()} == {
        "refine.chains.a.0.weights": UNKNOWN,
        "make_proposals.s.checkpoint": "apache-2.0",
        "further_cams.c.method.weights": "mit",
    }
    assert found["make_proposals.s.checkpoint"].facts.pixels.startswith("1.1 billion masks")
    assert found["refine.chains.a.0.weights"].setting == "own.pth"


def test_weights_of_committed_recipes_are_found() -> None:
    base = Recipe.read(ROOT / "recipes", BASE_RECIPE)
    found = {}
    for name in ("voc_clip_es", "smoke_kd_sam", "voc_cam"):
        params = recipe_params({}, Recipe.read(ROOT / "recipes", name), base)
        found[name] = {item.key for item in weights_of(plain(params))}
    assert "generate_cams.method.weights" in found["voc_clip_es"]
    assert any(key.endswith(".checkpoint") for key in found["smoke_kd_sam"])
    assert "train_classifier.backbone.weights" in found["voc_cam"]


def test_a_file_says_its_own_licence(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    save_file({"w": np.zeros(1)}, file, metadata={"license": "cc-by-sa-4.0"})
    (found,) = weights_of(recipe(str(file)))
    assert (found.licence, found.said_by) == ("cc-by-sa-4.0", "the file")
    with pytest.raises(ValueError, match="a licence that is known is not left out"):
        with_licences([found], {"own.safetensors": "mit"})


def test_the_readme_of_a_folder_says_it(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\ntags: [x]\nlicense: openrail\n---\nof own.pth\n")
    (tmp_path / "own.pth").touch()
    (tmp_path / "other.pth").touch()
    assert weights_of(recipe(str(tmp_path)))[0].licence == "openrail"
    assert weights_of(recipe(str(tmp_path / "own.pth")))[0].licence == "openrail"
    assert weights_of(recipe(str(tmp_path / "other.pth")))[0].is_unknown


def test_what_is_known_is_not_replaced_and_names_are_checked() -> None:
    known = weights_of(recipe("hub"))
    key = "train_classifier.backbone.weights"
    with pytest.raises(ValueError, match=r"are under apache-2\.0, which --licence would replace"):
        with_licences(known, {key: "mit"})
    assert with_licences(known, {key: "Apache-2.0"}) == known
    with pytest.raises(ValueError, match="which is none of the weights; did you mean"):
        with_licences(known, {"train_classifier.backbone.weight": "mit"})
    with pytest.raises(ValueError, match="names no licence"):
        with_licences(weights_of(recipe("mine.pth")), {"mine.pth": "unknown"})
