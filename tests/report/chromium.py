"""Real headless Chromium for tests of the page. Absent: skipped with the reason, or failed where CI requires it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "wide": (1440, 1000)}


def binaries() -> tuple[str, str]:
    """(chromium, chromedriver). Skips or fails the test when they are not installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        message = "needs Chromium and its driver: apt-get install chromium chromium-driver"
        if os.environ.get("TILTMETER_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return chromium, chromedriver


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """A Chromium with its own empty profile, console and network logs on."""
    chromium, chromedriver = binaries()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    driver.set_page_load_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


def resize(driver: Any, size: str, *, dark: bool = False) -> None:
    width, height = SIZES[size]
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {
            "features": [
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ]
        },
    )


def requested(driver: Any) -> list[str]:
    """Addresses asked for since the last call, as the network log has them; without chrome:// ones, which no page can
    ask for: the browser's own first tab may still be loading."""
    import json

    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = (each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent")
    return [url for url in sent if not url.startswith("chrome://")]
