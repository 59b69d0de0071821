"""The page as a person finds it: an image dropped, a slider moved. In headless Chromium.

SCREENSHOTS=docs/images DEMO_PROJECT=. pytest -m slow tests/demo/test_page.py keeps what it
saw, of the pipeline as it is.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from ..browser import chromium, keep, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(project: Path) -> str:
    """Of the project to show: DEMO_PROJECT, or the one of random weights."""
    return str(Path(os.environ.get("DEMO_PROJECT") or project).absolute())


@pytest.fixture(scope="module")
def address(place: str) -> Iterator[str]:
    pytest.importorskip("gradio", reason="needs Gradio: pip install '.[demo]'")
    from wsss.demo.page import running
    from wsss.demo.sources import open_sources

    with chdir(place), running(open_sources(".")) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    profile = tmp_path_factory.mktemp("chromium")
    with chromium(
        profile, "--window-size=1500,1180", {"browser": "ALL", "performance": "ALL"}
    ) as opened:
        yield opened


def source(browser: Any, name: str) -> str:
    found = browser.find_elements("css selector", f"#{name} img")
    return str(found[0].get_attribute("src")) if found else ""


def said(browser: Any) -> str:
    return str(browser.find_element("id", "status").text)


def text(browser: Any, name: str) -> str:
    return str(browser.find_element("id", name).text)


def move(browser: Any, name: str, value: float) -> None:
    """Let a slider's number box have a value, as typing does."""
    browser.execute_script(
        """
        const slider = document.querySelector(arguments[0] + " input[type=range]");
        const put = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
        put.call(slider, arguments[1]);
        slider.dispatchEvent(new Event("input", {bubbles: true}));
        """,
        name,
        str(value),
    )


def requests(browser: Any) -> list[str]:
    """Addresses that the browser has asked."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    sent = (event for event in events if event["method"] == "Network.requestWillBeSent")
    return [event["params"]["request"]["url"] for event in sent]


def test_an_image_is_dropped_and_the_mask_follows_its_settings(
    place: str, address: str, browser: Any, tmp_path: Path
) -> None:
    browser.get(address)
    upload = wait(
        lambda: browser.find_elements("css selector", "#image input[type=file]"), "the upload"
    )[0]
    image = sorted(Path(place, "data/images").iterdir())[0]
    upload.send_keys(str(image))
    wait(lambda: source(browser, "mask") and " ms: " in said(browser), "a mask")
    assert "1 dense_crf" in said(browser) or "0 dense_crf" in said(browser)
    assert source(browser, "maps") and source(browser, "refined")
    wait(lambda: source(browser, "predicted"), "the segmenter's mask")

    mask, maps, refined = (source(browser, name) for name in ("mask", "maps", "refined"))
    begun = time.perf_counter()
    move(browser, "#threshold", 0.1)
    wait(lambda: source(browser, "mask") != mask, "another mask")
    print(f"a threshold took {1000 * (time.perf_counter() - begun):.0f} ms in the browser")
    assert (source(browser, "maps"), source(browser, "refined")) == (maps, refined)
    wait(lambda: "make_pseudo_masks.threshold=0.1" in text(browser, "line"), "the setting")
    assert "mask" in said(browser) and "dense_crf" not in said(browser)

    mask = source(browser, "mask")
    sliders = browser.find_elements("css selector", "#chain_crf input[type=range]")
    assert len(sliders) > 6
    kernel = browser.find_elements("css selector", "#chain_crf [id$=_sigma_xy]")[0]
    begun = time.perf_counter()
    move(browser, f"#{kernel.get_attribute('id')}", 12)
    wait(lambda: source(browser, "refined") != refined, "other maps")
    print(f"a kernel took {1000 * (time.perf_counter() - begun):.0f} ms in the browser")
    wait(lambda: "sigma_xy=12" in text(browser, "line"), "the setting of the CRF")
    assert source(browser, "maps") == maps

    ticks = browser.find_elements("css selector", "#tags input[type=checkbox]")
    assert len(ticks) == 3
    browser.execute_script("arguments[0].click()", ticks[0])
    wait(lambda: source(browser, "maps") != maps, "maps of other tags")
    browser.execute_script("arguments[0].click()", ticks[0])
    wait(lambda: "pictures" in said(browser), "the tag again")
    time.sleep(2)
    keep(browser, "demo", tmp_path)

    asked = {urlsplit(url).hostname for url in requests(browser) if url.startswith("http")}
    assert asked == {"127.0.0.1"}, "something else was asked"
    console = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert console == []


def test_what_is_no_image_is_told_and_the_page_goes_on(
    place: str, address: str, browser: Any, tmp_path: Path
) -> None:
    broken, whole = tmp_path / "broken.png", tmp_path / "grey.png"
    broken.write_bytes(b"no image")
    Image.fromarray(np.arange(96 * 96, dtype=np.uint16).reshape(96, 96) * 7).save(whole)
    browser.get(address)
    upload = "#image input[type=file]"
    wait(lambda: browser.find_elements("css selector", upload), "the upload")[0].send_keys(
        str(broken)
    )
    wait(lambda: "It stays as it was" in said(browser), "the trouble")
    browser.get(address)
    wait(lambda: browser.find_elements("css selector", upload), "the upload")[0].send_keys(
        str(whole)
    )
    wait(lambda: source(browser, "mask") and " ms: " in said(browser), "a mask")
