"""Headless Chromium, for tests that look at pages."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --disable-dev-shm-usage"
)


@contextmanager
def chromium(profile: Path, flag: str, logs: dict[str, str] | None = None) -> Iterator[Any]:
    """A driver; the test is skipped where there is none.

    Args:
        profile: an empty folder.
        flag: one more, such as the size of the window.
        logs: that the driver is to keep, with their levels.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for each in (*FLAGS.split(), flag, f"--user-data-dir={profile}"):
        options.add_argument(each)
    if logs:
        options.set_capability("goog:loggingPrefs", logs)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def wait(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Wait until a condition holds; what it gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.1)
    return found


def keep(browser: Any, name: str, folder: Path) -> None:
    """Store what the browser shows, in 256 colours; in SCREENSHOTS, where that is set."""
    folder = Path(os.environ.get("SCREENSHOTS") or folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.png"
    browser.save_screenshot(str(file))
    Image.open(file).convert("RGB").quantize(256).save(file, optimize=True)
