"""The Chinese page of a real run holds no English sentence of tiltmeter's own."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_documents import revised

from tiltmeter import report
from tiltmeter.datasets.catalogue import DATASETS
from tiltmeter.demo.command import BASE, DATA
from tiltmeter.pipeline import run
from tiltmeter.registry import known
from tiltmeter.results.document import read_document
from tiltmeter.study import make_study

SENTENCE = re.compile(r"(?:\b[a-z’'-]+ ){3}[a-z]+\b")  # four plain English words in a row
SPOKEN = ("aria-label", "title", "placeholder", "alt")


class Visible(HTMLParser):
    """Every text a reader sees or a screen reader says."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.texts = 0, list[str]()

    def handle_starttag(self, tag, attributes):
        self.hidden += tag in ("script", "style")
        self.texts += [value for name, value in attributes if name in SPOKEN and value]

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data):
        self.texts += [] if self.hidden else [data]


def english(page: str, quoted: set[str]) -> set[str]:
    """Texts with an English sentence in them, what is quoted taken out first."""
    parser = Visible()
    parser.feed(page)
    found = set()
    for text in parser.texts:
        for citation in sorted(quoted, key=len, reverse=True):
            text = text.replace(citation, "")
        found |= {text.strip()} if SENTENCE.search(text) else set()
    return found


@pytest.fixture(scope="module")
def real_run(tmp_path_factory) -> Path:
    """The built-in model, a strategy that acts, one that ruins the text, and one that cannot act."""
    out = tmp_path_factory.mktemp("zh") / "run"
    strategies = ("magnitude", "magnitude:sparsity=0.9", "kv4:read=transformers")
    run(make_study(models=(str(BASE),), strategies=strategies, data=str(DATA), limit=12, draws=100), out)
    return out


def citations() -> set[str]:
    classes = known("benchmark").values()
    return {text for cls in classes for text in (cls.source, cls.licence)} | {
        text for dataset in DATASETS.values() for text in (dataset.source, dataset.licence, dataset.citation)
    }


def test_the_chinese_page_of_a_real_run_has_no_english_sentence_of_its_own(real_run):
    verdicts = {row.verdict for row in read_document(real_run).rows if row.change}
    assert {"not exercised", "no usable signal", "inconclusive"} <= verdicts
    page = report.build_report(real_run, lang="zh").read_text(encoding="utf-8")
    assert english(page, citations()) == set()
    told = ("该加速方法在此处不可能起作用", "此处分数高低没有意义", "哪种偏差变化最大", "符合策略要求", "个线性层中")
    assert [text for text in told if text not in page] == []


def test_the_english_page_would_be_caught(real_run):
    page = report.build_report(real_run).read_text(encoding="utf-8")
    assert len(english(page, citations())) > 50


def test_a_document_of_an_older_version_shows_its_english_reasons_marked_as_english(real_run):
    from tiltmeter.report.view import View
    from tiltmeter.report.words import Words

    document = read_document(real_run)
    older = "The score moved in a way that only an older version says."
    row = next(revised(row, {"reason": older}) for row in document.rows if row.change)
    told = View(document, Words("zh")).reason(row)
    assert told == older and told.foreign
