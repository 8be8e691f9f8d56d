"""The page without a browser: every section stands, the words follow the verdicts, hostile text is inert."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
import report_synthetic
from made_documents import judged, revised, with_rows
from report_run import POISON, write_run

from tiltmeter import report
from tiltmeter.decisions.controls import is_control
from tiltmeter.errors import UserError
from tiltmeter.report import page, summary
from tiltmeter.report.examples import Sample
from tiltmeter.report.view import View
from tiltmeter.report.words import Words
from tiltmeter.schema import Document

SMALL = {"strategies": ("int4", "rerun"), "benchmarks": ("crows-pairs", "dt-stereotyping")}
TINY = {"strategies": ("int4",), "benchmarks": ("dt-stereotyping",)}
NO_EXAMPLES = Sample("", 0, 0, 0)


class Tags(HTMLParser):
    """Every element with its attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


def view(lang: str = "en", verdicts: tuple[str, ...] = (), **document) -> View:
    made = report_synthetic.enriched(report_synthetic.document(**{**SMALL, **document}))
    return View(judged(made, *verdicts, pick=lambda row: not is_control(row.strategy)), Words(lang))


@pytest.mark.parametrize(
    ("verdicts", "kind"),
    [
        (("worse", "equivalent"), "worse"),
        (("better", "inconclusive"), "better"),
        (("equivalent", "equivalent"), "equivalent"),
        (("equivalent", "inconclusive"), "inconclusive"),
        (("shifted", "better"), "shifted"),
        (("no usable signal", "equivalent"), "no usable signal"),
        (("not exercised", "not exercised"), "not exercised"),
    ],
)
def test_the_headline_follows_the_verdicts_and_ignores_controls(verdicts, kind):
    assert summary.headline(view(verdicts=verdicts))[0] == kind


def test_inconclusive_is_never_called_no_change():
    _, text = summary.headline(view(verdicts=("inconclusive", "inconclusive")))
    assert "This run cannot tell 2 of 2 comparisons from chance" in text and "no change" not in text.lower()


@pytest.mark.parametrize("other", ["inconclusive", "no usable signal"])
def test_a_run_that_settles_nothing_does_not_begin_with_reassurance(other):
    _, nothing = summary.headline(view(verdicts=("inconclusive", other)))
    _, something = summary.headline(view(verdicts=("equivalent", other)))
    assert nothing.startswith(("This run cannot tell", "Nothing can be judged here"))
    assert something.startswith(("Nothing is shown to be worse, but", "Where it can be judged"))


def test_a_variant_with_one_worse_cell_is_to_avoid_and_a_control_is_no_candidate():
    tiers = {line.strategy: line.tier for line in summary.variant_lines(view(verdicts=("equivalent", "worse")))}
    assert tiers == {"int4": "avoid", "rerun": "control"}
    assert summary.variant_lines(view(verdicts=("equivalent", "better")))[0].tier == "candidate"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_section_stands_in_both_languages(lang):
    text = page.build(view(lang, **TINY), NO_EXAMPLES)
    tags = Tags(text).elements
    ids = {attributes.get("id") for _, attributes in tags}
    assert set(page.CONTENTS) <= ids
    links = {attributes["href"][1:] for tag, attributes in tags if tag == "a"}
    assert links <= ids  # no link leads nowhere


def test_nothing_is_loaded_and_only_the_pages_own_style_and_script_are_allowed():
    text = page.build(view(poison=POISON, **TINY), NO_EXAMPLES)
    tags = Tags(text).elements
    assert {tag for tag, _ in tags} & {"img", "iframe", "link", "object", "embed", "form"} <= {"form"}
    assert [a for tag, a in tags if tag == "script"] == [{"type": "application/json", "id": "words"}, {}]
    for _, attributes in tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset")]
    content = next(a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert content.startswith("default-src 'none'") and "unsafe" not in content


def test_a_run_without_comparisons_still_gives_a_page_that_says_so():
    text = page.build(view(strategies=()), NO_EXAMPLES)
    assert "This run compares nothing yet" in text
    assert "compares nothing" in page.build(View(Document(rows=()), Words("en")), NO_EXAMPLES)


def test_a_run_with_only_undefined_scores_still_gives_a_page():
    nothing = dict(delta=None, ci=None, p=None, p_adjusted=None, verdict="no usable signal", noise=None, mde=None)
    made = with_rows(
        view(**TINY).document,
        lambda _, row: revised(row, nothing if row.change else (), score=None, reason="no answer", n_scored=0),
    )
    assert "the answers carry no usable signal" in page.build(View(made, Words("en")), NO_EXAMPLES)


def test_the_report_of_a_run_folder_is_one_file_with_its_texts(tmp_path):
    write_run(tmp_path / "run", poison=POISON, **TINY)
    path = report.build_report(tmp_path / "run")
    assert path == tmp_path / "run" / "report.html"
    text = path.read_text(encoding="utf-8")
    assert "int4 says no." in text and "<script>window" not in text and "\x00" not in text and "\u202e" not in text


def test_the_same_run_gives_the_same_page(tmp_path):
    write_run(tmp_path / "run", **TINY)
    first = report.build_report(tmp_path / "run", out=tmp_path / "1.html").read_bytes()
    assert report.build_report(tmp_path / "run", out=tmp_path / "2.html").read_bytes() == first


def test_a_folder_that_is_no_run_and_an_unwritable_place_are_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"run\.json"):
        report.build_report(tmp_path)
    write_run(tmp_path / "run", **TINY)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        report.build_report(tmp_path / "run", out=tmp_path / "file" / "report.html")
