"""Screenshots of a report at three widths, light and dark, for the documentation.

tiltmeter demo --keep runs/demo && tiltmeter report runs/demo
python tests/report/screenshots.py runs/demo/report.html docs/img
"""

from __future__ import annotations

import base64
import sys
import tempfile
import time
from pathlib import Path

from chromium import SIZES, browser, resize

SHOTS = {  # name -> size, dark, section, height in pixels
    "report-wide": ("wide", False, "", 1000),
    "report-dark": ("wide", True, "matrix", 1000),
    "report-tablet": ("tablet", False, "changes", 1180),
    "report-phone": ("phone", False, "", 844),
    "report-phone-dark": ("phone", True, "changes", 844),
    "report-flips": ("wide", False, "browser", 900),
    "report-groups": ("wide", False, "groups", 900),
}


def main(page: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as driver:
        for name, (size, dark, section, height) in SHOTS.items():
            resize(driver, size, dark=dark)
            driver.get(page.resolve().as_uri())
            if name == "report-flips":
                driver.execute_script("document.getElementById('flips-open').click(); document.activeElement.blur()")
            top = driver.execute_script(
                "const s = arguments[0] && document.getElementById(arguments[0]);"
                "return s ? s.getBoundingClientRect().top + scrollY : 0",
                section,
            )
            driver.execute_script("scrollTo(0, arguments[0])", top)
            time.sleep(0.3)
            clip = {"x": 0, "y": top, "width": SIZES[size][0], "height": height, "scale": 1}
            shot = driver.execute_cdp_cmd(
                "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
            )
            (folder / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
