"""Chinese pages stand beside the English: the same commands in the same order, and the same tables of names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [("README.md", "README.zh.md"), ("docs/tutorial.md", "docs/tutorial.zh.md")]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """Lines of code blocks that hold commands or Python, without comments; printed output is another kind of block."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    lines = [line for kind, block in blocks if kind in ("", "python", "yaml") for line in block.splitlines()]
    plain = (re.sub(r"\s+#.*|^#.*", "", line).rstrip() for line in lines)
    return [line for line in plain if line]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_have_the_same_commands(english, chinese):
    assert commands(page(english)) == commands(page(chinese))


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_the_pages_lead_to_one_another(english, chinese):
    assert f"]({Path(english).name})" in page(chinese)
    assert Path(chinese).name in page(english)


@pytest.mark.parametrize("chinese", [pair[1] for pair in PAIRS])
def test_local_links_of_the_chinese_pages_lead_somewhere(chinese):
    links = [link for link in re.findall(r"\]\(([^)#]+)", page(chinese)) if not link.startswith("http")]
    assert links and all((ROOT / chinese).parent.joinpath(link).exists() for link in links)


def test_both_readmes_name_the_same_benchmarks():
    listed = [re.findall(r"^\| `([\w-]+)` \|", page(name), re.M) for name in PAIRS[0]]
    assert listed[0] == listed[1] != []
