"""What the committed recipes say: the rows of published tables, and what differs between them.

That each can be applied to params.yaml is for tests/cli/test_recipe.py.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from wsss.config.params import Params
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.config.sections import TrainClassifierSettings
from wsss.config.shipped import recipe_summaries
from wsss.config.yaml_text import load_yaml
from wsss.registry import METHODS, REFINERS

FOLDER = Path(__file__).parents[1] / "recipes"
SOURCES = "voc|pets|smoke|vaihingen|aerial"
ROWS = sorted(path.stem for path in FOLDER.glob("*.yaml") if re.match(SOURCES, path.stem))
VARIABLES = {
    "$VOC_ROOT",
    "$PETS_ROOT",
    "$BACKGROUND_ROOT",
    "$SMOKE_ROOT",
    "$VAIHINGEN_ROOT",
    "$SMOKE5K_ROOT",
    "$IJMOND_ROOT",
    "$RISE_ROOT",
    "$RESNET38_WEIGHTS",
    "$SAM_WEIGHTS",
    "$WSSS_SHARED",
}
"""Folders and files that are not in the repository."""


@cache
def recipe(name: str) -> Recipe:
    return Recipe.read(FOLDER, name)


@cache
def params(name: str) -> Params:
    """The settings of a recipe; as values, since editing the text of params.yaml takes longer."""
    return recipe_params({}, recipe(name), recipe(BASE_RECIPE))


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def differing(first: str, other: str) -> set[str]:
    """Sections, and parts of train_classifier, in which two recipes are not the same."""
    left, right = (params(name).model_dump(mode="json") for name in (first, other))
    found = {key for key in left if left[key] != right[key]}
    if "train_classifier" in found:
        a, b = left["train_classifier"], right["train_classifier"]
        found |= {f"train_classifier.{key}" for key in a if a[key] != b[key]}
    return found - {"base", "train_classifier"}


def as_mapping(settings: TrainClassifierSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json")


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_is_valid_and_says_what_was_published(name: str) -> None:
    params(name)
    header = recipe(name).text.partition("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in header)
    assert len(recipe(name).text.splitlines()[0]) <= 100
    assert header[1] == "#"
    assert any(line.startswith("# Published: ") for line in header)


def test_painted_defects_run_the_chain_that_is_for_photographs() -> None:
    assert differing("small_defects", "synthetic_defects") == {"prepare_data"}


@pytest.mark.parametrize("name", ROWS)
def test_headers_name_recipes_that_exist(name: str) -> None:
    comments = " ".join(re.findall("#.*", recipe(name).text))
    named = set(re.findall(rf"(?<![/\w])(?:{SOURCES})_\w+", comments))
    assert named <= set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_nothing_but_the_named_roots_and_weights_is_needed(name: str) -> None:
    for key, value in leaves(params(name).model_dump(mode="json")):
        if isinstance(value, str) and value.startswith(("$", "/", "~")):
            assert value.partition("/")[0] in VARIABLES, key
        if key.endswith("backbone.weights"):
            assert value == "hub" or value.startswith("$")


@pytest.mark.parametrize("name", ROWS)
def test_no_value_of_the_painted_scenes_is_left(name: str) -> None:
    """They have 128 pixels and a network from scratch; what that decides, recipes must name."""
    named = {key for layer in recipe(name).layers() for key, _ in leaves(layer.values)}
    trained = ["lr", "head_lr_factor", "weight_decay", "schedule"]
    wanted = [
        "prepare_data.dataset.name",
        *(f"train_classifier.backbone.{key}" for key in ("model_name", "output_stride", "weights")),
        *(
            f"train_{item}.optimizer.{key}"
            for item in ("classifier", "segmenter")
            for key in trained
        ),
        *(
            f"train_{item}.{key}"
            for item in ("classifier", "segmenter")
            for key in ("augment.crop_size", "augment.long_side", "batch_size", "epochs")
        ),
        "train_classifier.optimizer.warmup_share",
        "train_classifier.augment.jitter",
        "train_classifier.eval_long_side",
        "train_segmenter.eval_long_side",
        "generate_cams.scales",
        "predict_masks.scales",
        "refine.chains.crf",
    ]
    assert set(wanted) <= named


def test_every_training_method_has_a_recipe() -> None:
    used = {params(name).train_classifier.method.model_dump()["name"] for name in ROWS}
    assert used >= set(METHODS.names())


def test_every_refiner_has_a_recipe() -> None:
    chains = [params(name).refine.chains for name in ROWS]
    used = {
        item.model_dump()["name"] for each in chains for chain in each.values() for item in chain
    }
    assert used >= set(REFINERS.names())


@pytest.mark.parametrize(
    ("name", "batch", "epochs", "lr", "head", "decay", "long_side", "crop"),
    [
        ("voc_cam_irn", 16, 5, 0.1, 10, 1e-4, (320, 640), 512),
        ("voc_cam_psa", 16, 15, 0.1, 10, 5e-4, (256, 512), 448),
        ("voc_cam_psa_vgg16", 16, 15, 0.1, 10, 5e-4, (256, 512), 448),
        ("voc_cam", 8, 15, 0.1, 1, 5e-4, (256, 512), 300),
        ("voc_fmix", 8, 25, 0.1, 1, 5e-4, (256, 512), 300),
        ("voc_fmix_sbd", 8, 20, 0.05, 1, 5e-4, (256, 512), 300),
        ("voc_sc_cam", 16, 50, 0.01, 10, 5e-4, (256, 512), 224),
        ("voc_seam", 8, 8, 0.01, 10, 5e-4, (448, 768), 448),
    ],
)
def test_published_settings_with_the_momentum_that_ran(
    name: str,
    batch: int,
    epochs: int,
    lr: float,
    head: float,
    decay: float,
    long_side: tuple[int, int],
    crop: int,
) -> None:
    found = params(name).train_classifier
    assert (found.batch_size, found.epochs) == (batch, epochs)
    rates = found.optimizer
    assert (rates.lr, rates.head_lr_factor, rates.weight_decay) == (lr, head, decay)
    assert rates.momentum == rates.weight_decay  # their PolyOptimizer hands it over as momentum
    assert (found.augment.long_side, found.augment.crop_size) == (long_side, crop)


def test_the_single_stage_network_as_published() -> None:
    found = params("voc_single_stage").train_classifier
    assert (found.batch_size, found.epochs, found.augment.crop_size) == (16, 24, 321)
    rates = found.optimizer
    assert (rates.lr, rates.head_lr_factor, rates.bias_lr_factor) == (1e-3, 10, 2)
    assert (rates.weight_decay, rates.momentum) == (5e-4, 0.9)
    values, default = (
        method.model_dump() for method in (found.method, METHODS.default("single_stage"))
    )
    # it begins with the first step of epoch 5, of up to 1000 steps
    assert 4 + 999 / 1000 < 24 * values.pop("segmentation_from") <= 5
    assert values == {key: value for key, value in default.items() if key in values}


METHOD, CAMS = "train_classifier.method", "generate_cams"
CCAM = {"train_classifier.optimizer", "train_classifier.epochs", "train_classifier.start_from"}


@pytest.mark.parametrize(
    ("name", "other", "parts"),
    [
        ("voc_mixup", "voc_cam", {METHOD}),
        ("voc_manifold_mixup", "voc_cam", {METHOD}),
        ("voc_fmix", "voc_cam", {METHOD, "train_classifier.epochs"}),
        ("voc_sce", "voc_cam", {METHOD, "train_teachers"}),
        ("voc_sct", "voc_sce", {METHOD, "train_teachers"}),
        ("voc_seam", "voc_cam_seam", {METHOD, CAMS}),
        ("voc_sc_cam", "voc_cam_sc_cam", {METHOD, "train_teachers", "train_classifier.epochs"}),
        ("voc_cam_psa_vgg16", "voc_cam_psa", {"train_classifier.backbone"}),
        ("voc_grad_cam", "voc_cam_irn", {CAMS}),
        ("voc_grad_cam_plus_plus", "voc_cam_irn", {CAMS}),
        ("voc_layer_cam", "voc_cam_irn", {CAMS}),
        ("pets_cam_37bg", "pets_cam_2", {"prepare_data"}),
        ("pets_cam_ecs_37bg", "pets_cam_37bg", {CAMS}),
        ("pets_ccam_2", "pets_cam_2", {"prepare_data", "train_teachers", METHOD, CAMS, *CCAM}),
        ("pets_ccam_pretrained", "pets_ccam_2", {"train_teachers", "train_classifier.start_from"}),
        ("pets_ccam_37bg", "pets_ccam_2", {"prepare_data"}),
        ("pets_ccam_ecs_2bg", "pets_ccam_2bg", {METHOD}),
        ("pets_ccam_ecs_37bg", "pets_ccam_37bg", {METHOD}),
        ("pets_ccam_specific_2", "pets_ccam_2", {METHOD}),
        ("smoke_resnet101", "smoke_resnet50", {"train_classifier.backbone"}),
        ("smoke_transcam", "smoke_vit", {CAMS}),
        ("smoke_kd", "smoke_vit", {METHOD, "train_teachers"}),
        ("smoke_kd_l2", "smoke_kd_l1", {METHOD}),
        ("smoke_kd_spatial", "smoke_kd", {METHOD}),
    ],
)
def test_rows_of_a_table_differ_in_what_they_are_about(
    name: str, other: str, parts: set[str]
) -> None:
    assert differing(name, other) == parts


def test_teachers_are_the_classifiers_of_their_own_recipes() -> None:
    for name, teacher, own in (
        ("voc_sce", "teacher", "voc_cam"),
        ("voc_sc_cam", "teacher", "voc_cam_sc_cam"),
        ("pets_ccam_2", "classifier", "pets_cam_2"),
        ("pets_ccam_specific_2", "classifier", "pets_cam_2"),
        ("pets_ccam_ecs_37bg", "classifier", "pets_cam_37bg"),
        ("smoke_kd", "teacher", "smoke_pcm"),
        ("smoke_kd_boundary", "teacher", "smoke_pcm"),
        ("smoke_kd_two_teachers", "teacher", "smoke_pcm"),
    ):
        taught = params(name).train_teachers[teacher]
        assert as_mapping(taught) == as_mapping(params(own).train_classifier), name


def test_the_summaries_tell_recipes_apart() -> None:
    summaries = recipe_summaries(FOLDER)
    assert {*ROWS} < summaries.keys()
    assert len({*summaries.values()}) == len(summaries)


def test_values_are_what_stands_in_the_files() -> None:
    """Of the helper above: a child's value wins, and the base is under all."""
    text = (FOLDER / "voc_fmix_sbd.yaml").read_text(encoding="utf-8")
    own = load_yaml(text, "x")["train_classifier"]
    found = params("voc_fmix_sbd").train_classifier
    assert (found.epochs, found.optimizer.lr) == (own["epochs"], own["optimizer"]["lr"])
    assert params("voc_fmix_sbd").refine.chains.keys() == {"none", "crf"}
    assert params("voc_fmix_sbd").evaluate.threshold_step == 0.01


OWN = ["own_photos", "own_photos_from_scratch", "small_defects"]


@pytest.mark.parametrize("name", OWN)
def test_a_recipe_for_any_number_of_classes_learns_alike_with_each(name: str) -> None:
    """The loss is a mean over classes: a rate of SGD that suits 20 diverges with 3."""
    settings = params(name)
    assert settings.prepare_data.dataset.name in ("folder", "anomalib")
    assert settings.train_classifier.optimizer.algorithm == "adamw"
    assert settings.train_segmenter.optimizer.algorithm == "adamw"
