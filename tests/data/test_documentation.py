"""The page on own data names every setting that people who bring some may need."""

import re
from pathlib import Path

import pytest
import yaml

from wsss.config.params import parse_params
from wsss.config.preparation import PrepareDataSettings
from wsss.data.folder import FolderSettings

PAGE = (Path(__file__).parents[2] / "docs/own_data.md").read_text(encoding="utf-8")
KEYS = {*FolderSettings.model_fields, *PrepareDataSettings.model_fields} - {"name", "dataset"}


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_setting_of_own_data_is_documented(key: str) -> None:
    assert f"`{key}`" in PAGE


EXAMPLES = re.findall(r"```yaml\n(prepare_data:\n.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_taken_as_it_stands(text: str) -> None:
    found = parse_params(yaml.safe_load(text)).prepare_data
    sets = [item.dataset for item in found.scored_sets.values()] or [found.dataset]
    assert all(f"name: {dataset.name}" in text for dataset in sets)
