"""The page as a person meets it: clicks, keys, a phone, the dark. In headless Chromium.

SCREENSHOTS=docs/images REPORT_PROJECT=. pytest -m slow tests/stages/test_report_page.py keeps what
it saw, of the pipeline as it is; without REPORT_PROJECT it looks at a small painted one.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from wsss.report.comparison import Experiment, comparison_page
from wsss.report.frame import write_page
from wsss.stages import run_stage

from ..browser import chromium, keep
from ..browser import wait as wait_for
from .report_project import paint, parameters

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WIDTHS = (390, 1280)
SEVERE = ("serious", "critical")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project whose page is looked at."""
    given = os.environ.get("REPORT_PROJECT")
    if given:
        return Path(given).absolute()
    params = parameters()
    paths = paint(tmp_path_factory.mktemp("painted"), params)
    run_stage("report", params, paths)
    return paths.root


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "data/report/report.html").as_uri()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a project without any ground truth."""
    params = parameters()
    paths = paint(tmp_path_factory.mktemp("bare"), params, masks=False)
    run_stage("report", params, paths)
    return (paths.root / "data/report/report.html").as_uri()


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two settings, one of three seeds."""
    names = ("cam", "crf", "pseudo", "segmenter")

    def one(heading: str, first: float, sigma: str, seed: int) -> Experiment:
        scores = {
            f"{name}.val_mean_iou": first + 0.04 * at + 0.01 * seed for at, name in enumerate(names)
        }
        classes = {"segmenter.val": {"background": 0.9, "cat": first + 0.1, "dog": first}}
        settings = {"base.rng_seed": str(seed), "refine.chains.crf.0.sigma_rgb": sigma}
        curve = [(at / 10, first * (1 - abs(at / 10 - 0.4))) for at in range(11)]
        facts = {"recipe": "painted", "revision": "0123456789ab"}
        return Experiment(heading, scores, classes, settings, facts, {"crf": curve})

    held = [one(f"sigma_rgb=5, seed {seed}", 0.5, "5", seed) for seed in range(3)]
    held.append(one("sigma_rgb=13", 0.55, "13", 0))
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    write_page(path, comparison_page(held))
    return path.as_uri()


wait = partial(wait_for, seconds=60)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    profile = tmp_path_factory.mktemp("chromium")
    with chromium(profile, "--hide-scrollbars", {"browser": "ALL"}) as opened:
        yield opened


def show(browser: Any, address: str, width: int = 1280, *, dark: bool = False) -> None:
    """Open a page at a width, as a phone where that is narrow."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get("about:blank")
    browser.get(address)


def one(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def errors(browser: Any) -> list[Any]:
    """What the console says, and has not said before."""
    return [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def press_key(element: Any) -> None:
    """As a person without a mouse does it."""
    from selenium.webdriver.common.keys import Keys

    element.send_keys(Keys.ENTER)


def scroll_to(browser: Any, selector: str) -> None:
    browser.execute_script(
        "document.documentElement.style.scrollBehavior = 'auto';"
        "document.querySelector(arguments[0]).scrollIntoView()",
        selector,
    )
    time.sleep(0.3)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["page", "bare", "comparison"])
def test_nothing_is_wider_than_the_screen_and_nothing_goes_wrong(
    browser: Any, request: pytest.FixtureRequest, name: str, width: int, dark: bool
) -> None:
    show(browser, request.getfixturevalue(name), width, dark=dark)
    browser.execute_script("document.querySelectorAll('details').forEach((x) => { x.open = true })")
    sizes = "return [document.documentElement.scrollWidth, window.innerWidth]"
    whole, seen = browser.execute_script(sizes)
    assert whole <= seen == width
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, ground[4:-1].split(","))) > 384
    assert light is not dark
    assert errors(browser) == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["page", "bare", "comparison"])
def test_axe_finds_nothing_serious(
    browser: Any, request: pytest.FixtureRequest, name: str, dark: bool
) -> None:
    spec = find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        pytest.skip("needs axe-core: pip install '.[browser]'")
    show(browser, request.getfixturevalue(name), dark=dark)
    browser.execute_script("document.querySelectorAll('details').forEach((x) => { x.open = true })")
    browser.execute_script(Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8"))

    def look() -> list[tuple[str, str]]:
        found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        return [
            (item["id"], node["html"][:200])
            for item in found["violations"]
            if item["impact"] in SEVERE
            for node in item["nodes"]
        ]

    assert look() == []
    if browser.find_elements("css selector", "#gallery button"):
        press_key(one(browser, "#gallery li:not([hidden]) button"))
        assert look() == []


def stage(browser: Any, name: str = "stage") -> str:
    return str(one(browser, f"#{name}").get_attribute("aria-valuetext"))


def overlay(browser: Any, picture: str) -> str:
    source = one(browser, f"{picture} img:nth-of-type(2)").get_attribute("src")
    return str(source)


def test_the_slider_takes_all_images_through_all_stages_by_keys(
    browser: Any, page: str, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, page)
    scroll_to(browser, "#images")
    wait(lambda: "png" in overlay(browser, "#gallery li:not([hidden])"), "a layer")
    keep(browser, "report_gallery", tmp_path)
    slider = one(browser, "#stage")
    slider.send_keys(Keys.HOME)
    seen = [stage(browser)]
    layers = [overlay(browser, "#gallery li:not([hidden])")]
    for _ in range(20):
        slider.send_keys(Keys.ARROW_RIGHT)
        if stage(browser) == seen[-1]:
            break
        seen.append(stage(browser))
        layers.append(overlay(browser, "#gallery li:not([hidden])"))
    assert (seen[0], seen[1], seen[-3:]) == (
        "image",
        "CAM",
        ["pseudo mask", "prediction", "ground truth"],
    )
    assert "gif" in layers[0] and all("image/png" in layer for layer in layers[1:])
    outline = "#gallery li:not([hidden]) img:nth-of-type(3)"
    assert "png" in str(one(browser, outline).get_attribute("src"))
    one(browser, "#outline").click()
    assert "gif" in str(one(browser, outline).get_attribute("src"))


def test_groups_are_chosen_and_an_image_is_opened_and_left_by_keys(
    browser: Any, page: str, tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(key: str) -> None:
        ActionChains(browser).send_keys(key).perform()

    show(browser, page)
    every = browser.find_elements("css selector", "#gallery li")
    for key in ("best", "missed", "all"):
        button = one(browser, f"[data-choice={key}]")
        button.send_keys(Keys.ENTER)
        assert button.get_attribute("aria-pressed") == "true"
        shown = [item for item in every if item.is_displayed()]
        assert len(shown) == int(button.text.partition("(")[2].rstrip(")"))
    assert len(shown) == len(every)
    one(browser, "[data-choice=worst]").click()
    first = one(browser, "#gallery li:not([hidden]) button")
    name = first.find_element("css selector", "b").text
    first.send_keys(Keys.ENTER)
    dialog = one(browser, "#viewer")
    assert dialog.is_displayed() and one(browser, "#viewer-title").text == name
    assert "IoU by class" in dialog.text
    time.sleep(0.5)
    keep(browser, "report_image", tmp_path)
    before = stage(browser, "viewer-stage")
    press(Keys.ARROW_RIGHT)  # the slider has the focus
    assert stage(browser, "viewer-stage") != before
    press(Keys.PAGE_DOWN)
    assert one(browser, "#viewer-title").text != name
    press(Keys.PAGE_UP)
    assert one(browser, "#viewer-title").text == name
    for _ in range(8):  # the focus stays within
        press(Keys.TAB)
        within = "return document.activeElement === document.body || "
        within += "document.getElementById('viewer').contains(document.activeElement)"
        assert browser.execute_script(within)
    press(Keys.ESCAPE)
    assert not dialog.is_displayed()
    assert browser.execute_script("return document.activeElement.textContent").startswith(name)
    assert errors(browser) == []


def test_a_failure_leads_to_its_images(browser: Any, page: str) -> None:
    show(browser, page)
    scroll_to(browser, "#failures")
    button = one(browser, "[data-go]")
    key = button.get_attribute("data-go")
    button.click()
    assert one(browser, f"[data-choice={key}]").get_attribute("aria-pressed") == "true"


def test_the_keyboard_meets_everything_in_the_order_of_the_page(browser: Any, page: str) -> None:
    """Nothing is taken out of the order, and each thing that is met has a name."""
    show(browser, page)
    found = browser.execute_script(
        """
        const all = [...document.querySelectorAll(
          "a[href],button,input,summary,[tabindex]")].filter((x) => x.offsetParent);
        const name = (x) => (x.getAttribute("aria-label") || x.textContent.trim()
          || (x.labels && x.labels[0] && x.labels[0].textContent) || "").trim();
        return all.map((x) => [x.tabIndex, name(x)]);
        """
    )
    assert len(found) > 20
    assert {index for index, _ in found} <= {0, -1}
    assert all(name for _, name in found)


def test_the_button_changes_between_light_and_dark(browser: Any, page: str) -> None:
    show(browser, page)
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(ground)
    one(browser, "#theme").click()
    assert browser.execute_script(ground) != light
    one(browser, "#theme").click()
    assert browser.execute_script(ground) == light


def test_pictures_for_the_documentation(
    browser: Any, page: str, comparison: str, tmp_path: Path
) -> None:
    show(browser, page)
    keep(browser, "report_top", tmp_path)
    scroll_to(browser, "#end")
    keep(browser, "report_end", tmp_path)
    show(browser, page, 390, dark=True)
    keep(browser, "report_phone", tmp_path)
    show(browser, comparison)
    keep(browser, "comparison", tmp_path)
    assert errors(browser) == []


def test_it_opens_in_mlflow(browser: Any, root: Path, tmp_path: Path) -> None:
    from wsss.tracking import open_tracker, prepare_mlflow
    from wsss.tracking.database import database_uri

    prepare_mlflow()
    uri = database_uri(tmp_path / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        with open_tracker("report", tmp_path, "wsss", {}, key="k", name="painted") as tracker:
            tracker.artifact(root / "data/report/report.html")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("wsss").experiment_id])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    server = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                with urlopen(f"{address}/health", timeout=2):
                    return True
            except OSError:
                return False

        wait_for(answers, "the server", 400)
        number = run.info.experiment_id
        show(browser, f"{address}/#/experiments/{number}/runs/{run.info.run_id}/artifacts")
        closing = "[data-component-id='mlflow.assistant.chat_panel.close']"
        row = "//*[text()='report.html']"
        wait(lambda: browser.find_elements("xpath", row), "the list of files")
        for button in browser.find_elements("css selector", closing):
            button.click()
        browser.find_elements("xpath", row)[0].click()
        frame = wait(lambda: browser.find_elements("css selector", "iframe"), "the page")[0]
        browser.switch_to.frame(frame)
        wait(lambda: browser.find_elements("css selector", "h1"), "its heading")
        assert one(browser, "h1").text.startswith("Report: ")
        assert one(browser, "[data-choice]").get_attribute("aria-pressed") == "true"
        browser.switch_to.default_content()
        time.sleep(2)
        browser.execute_script(  # where the file lies is another place each time
            """
            for (const one of document.querySelectorAll("body *"))
              if (!one.children.length && one.textContent.includes("file://"))
                one.style.visibility = "hidden";
            """
        )
        keep(browser, "mlflow_report", tmp_path)
    finally:
        server.terminate()
        server.wait()
