"""The page about `judge`: its example prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "judge.md"


def test_the_example_prints_what_the_page_shows():
    text = PAGE.read_text(encoding="utf-8")
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S).groups()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == shown
