"""The page on own data names every setting that people who bring some may need."""

from pathlib import Path

import pytest

from wsss.config.preparation import PrepareDataSettings
from wsss.data.folder import FolderSettings

PAGE = (Path(__file__).parents[2] / "docs/own_data.md").read_text(encoding="utf-8")
KEYS = {*FolderSettings.model_fields, *PrepareDataSettings.model_fields} - {"name", "dataset"}


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_setting_of_own_data_is_documented(key: str) -> None:
    assert f"`{key}`" in PAGE
