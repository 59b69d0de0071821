"""A tiny project that has run, and what its recipe states of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from wsss.artifacts import Paths
from wsss.config.params import Params
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.stages import find_stages, run_stage
from wsss.verify import Expected, write_expected
from wsss.verify.recording import values_of

LEARNING = {
    "batch_size": 8,
    "epochs": 4,
    "augment": {"crop_size": 64, "long_side": [64, 80]},
    "eval_long_side": 64,
}
VALUES = {
    "prepare_data": {
        "dataset": {"name": "synthetic", "num_train": 72, "num_val": 14, "image_size": [64, 64]},
        "selection_share": 0.15,
    },
    "train_classifier": LEARNING,
    "generate_cams": {"scales": [1.0], "batch_size": 8},
    "refine": {"chains": {"pamr": [{"name": "pamr", "dilations": [1, 2]}]}},
    "make_pseudo_masks": {"chain": "pamr"},
    "train_segmenter": LEARNING | {"epochs": 2},
    "predict_masks": {"scales": [1.0], "flip": False},
}


def params_in(root: Path) -> Params:
    """What `wsss recipe apply tiny` gives."""
    recipes = root / "recipes"
    base = Recipe.read(recipes, BASE_RECIPE)
    machine = {"machine.accelerator": "cpu", "machine.num_workers": 0}
    return recipe_params({}, Recipe.read(recipes, "tiny"), base, machine)


@pytest.fixture(scope="session")
def after_recipe() -> Callable[[Path], Params]:
    return params_in


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All stages have run; the recipe `tiny` states the scores of this run, each within 0.05.

    That is as if five runs had been measured with a standard deviation of 0.01.
    """
    root = tmp_path_factory.mktemp("tiny")
    (root / "recipes").mkdir()
    text = "# A tiny project\n\n" + yaml.safe_dump(VALUES, sort_keys=False)
    (root / "recipes/tiny.yaml").write_text(text)
    params = params_in(root)
    for target in find_stages().targets(params):
        run_stage(target.name, params, Paths(root))
    once = values_of(find_stages(), params, [root], {})
    write_expected(root, "tiny", of_five(once))
    yield root


def of_five(once: Expected) -> Expected:
    def spread(name: str, step: Any) -> Any:
        known = {
            key: value.model_copy(update={"spread": 0.0 if name == "data" else 0.01})
            for key, value in step.values.items()
        }
        return step.model_copy(update={"values": known})

    steps = {name: spread(name, step) for name, step in once.steps.items()}
    return once.model_copy(update={"runs": 5, "steps": steps, "same_data": False})
