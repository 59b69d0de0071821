"""Links of pages: within the site they stay, and out of it they lead into the repository."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "docs/_site/links.py"


def rewritten(markdown: str, page: str, repository: str = "") -> str:
    spec = importlib.util.spec_from_file_location("links", FILE)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = SimpleNamespace(repo_url=repository)
    return str(
        module.on_page_markdown(
            markdown, page=SimpleNamespace(file=SimpleNamespace(src_uri=page)), config=config
        )
    )


@pytest.mark.parametrize(
    ("page", "within"),
    [
        ("entries/maps/cam.md", "![cam](../../images/methods/maps_cam.jpg)"),
        ("entries/maps/cam.md", "[all results](../../results.md)"),
        ("entries/maps/cam.md", "[others](../training/mixup.md)"),
        ("project.md", "[own data](own_data.md)"),
    ],
)
def test_links_within_the_site_stay_however_deep_the_page_lies(page: str, within: str) -> None:
    assert rewritten(within, page) == within
    assert rewritten(within, page, "https://example.org/wsss/") == within


@pytest.mark.parametrize(
    ("page", "up"), [("project.md", "../"), ("entries/maps/cam.md", "../../../")]
)
def test_links_out_of_the_site_lead_into_the_repository(page: str, up: str) -> None:
    link = f"[a recipe]({up}recipes/voc_cam.yaml)"
    assert rewritten(link, page) == "`recipes/voc_cam.yaml`"
    there = "[a recipe](https://example.org/wsss/blob/main/recipes/voc_cam.yaml)"
    assert rewritten(link, page, "https://example.org/wsss/") == there
