"""Pictures are valid Vega-Lite, well-formed SVG, labelled, and say why when there is nothing to draw."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
import report_synthetic
from made_documents import judged, revised, with_rows
from report_run import POISON

from tiltmeter.report import charts
from tiltmeter.report.figures import figures, to_page, to_svg, write_all
from tiltmeter.report.ink import INK, NAME_LIMIT, SHAPES, labels
from tiltmeter.report.view import View
from tiltmeter.report.words import Words
from tiltmeter.schema import Verdict

SMALL = {"strategies": ("int4", "rerun"), "benchmarks": ("crows-pairs", "discrim-eval")}


def view(lang: str = "en", **document) -> View:
    return View(report_synthetic.enriched(report_synthetic.document(**{**SMALL, **document})), Words(lang))


@pytest.mark.parametrize("kind", ["heatmap", "forest", "groups", "published", "pareto"])
def test_every_kind_of_picture_is_valid_vega_lite_on_the_page_and_as_a_file(kind):
    figure = next(figure for figure in figures(view()) if figure.section == kind)
    for file in (False, True):
        drawn = figure.draw(file=file).to_dict(validate=True)  # raises SchemaValidationError
        assert "/vega-lite/" in drawn["$schema"]


def test_every_quantitative_axis_has_a_title_with_its_unit():
    for figure in figures(view()):
        text = to_svg(figure.draw(file=False)) if figure.section in ("forest", "published", "pareto") else None
        if text and figure.section != "pareto":
            assert ">change" in text and ("(points)<" in text or "(fraction)<" in text or "²)<" in text)


def test_hostile_text_gives_well_formed_svg_without_scripts_styles_or_outside_links():
    for figure in figures(view(poison=POISON, strategies=("int4",))):
        root = ET.fromstring(to_page(figure.draw(file=False)))
        tags = {element.tag.rsplit("}")[-1] for element in root.iter()}
        assert tags <= {"svg", "g", "path", "text", "line", "rect", "a", "defs", "clipPath", "title"}, tags
        for element in root.iter():
            assert not [name for name in element.attrib if name.lower().startswith("on") or name == "style"]
            assert element.attrib.get("href", "#").startswith("#")
            assert not [v for name, v in element.attrib.items() if name.endswith("}href") and not v.startswith("#")]


def test_page_colours_follow_the_theme_and_files_keep_fixed_ones():
    figure = next(figure for figure in figures(view()) if figure.section == "forest")
    page, file = to_page(figure.draw(file=False)), to_svg(figure.draw(file=True))
    assert "var(--ink)" in page and INK["ink"] not in page
    assert "var(--" not in file and INK["ink"] in file


def test_a_mark_carries_its_sentence_and_a_link_to_its_numbers():
    document = view()
    row = document.compared[0]
    svg = to_page(charts.forest(document, [row]))
    assert f'href="#{document.row_id(row)}"' in svg
    assert "95 % interval" in svg and row.strategy in svg


def test_an_all_undefined_panel_is_no_picture_but_a_reason():
    nothing = dict(delta=None, ci=None, companion_delta=None, reason="nothing was answered")
    made = view().document
    document = View(
        with_rows(
            made,
            lambda _, row: revised(
                row, nothing, groups=[{**group.as_json(), "delta": None, "ci": None} for group in row.groups]
            ),
        ),
        Words("en"),
    )
    for figure in figures(document):
        if figure.section in ("forest", "groups"):
            assert figure.draw(file=False) is None
            assert figure.empty
    assert "nothing was answered" in next(f for f in figures(document) if f.section == "forest").empty


def test_figures_are_written_as_svg_png_and_specification_or_as_a_reason(tmp_path):
    document = view(benchmarks=("crows-pairs",))
    names = {path.name for path in write_all(document, tmp_path)}
    assert {
        "forest-crows-pairs-plain-greedy.svg",
        "forest-crows-pairs-plain-greedy.png",
        "forest-crows-pairs-plain-greedy.vl.json",
    } <= names
    assert (tmp_path / "forest-crows-pairs-plain-greedy.png").read_bytes()[:4] == b"\x89PNG"


def test_every_verdict_has_a_colour_a_shape_and_a_cell_of_its_own():
    made = report_synthetic.document(strategies=("int4",), benchmarks=tuple(report_synthetic.BENCHMARKS))
    made = View(judged(made, *(v for v in Verdict if v is not Verdict.WORSE)), Words("en"))
    assert {v.colour for v in Verdict} <= INK.keys() and set(SHAPES) == set(Verdict)
    heat = to_svg(charts.heatmap(made, made.compared))
    assert all(f">{v.sign} " in heat for v in Verdict if v is not Verdict.WORSE)
    (shifted,) = (row for row in made.compared if row.verdict is Verdict.SHIFTED)
    drawn = charts.forest(made, [shifted], file=True).to_dict(validate=True)
    assert INK["shifted"] in str(drawn) and SHAPES[Verdict.SHIFTED] in str(drawn)


SETTINGS = (
    "kv4:read=transformers,residual_length=64",
    "kv4:read=transformers,residual_length=32",
    "checkpoint=/models/org/SomeModel-7B-Instruct-GPTQ-Int4-g128",
    "checkpoint=/models/org/SomeModel-7B-Instruct-GPTQ-Int8-g128",
)


def test_a_label_stands_whole_in_lines_that_end_where_a_part_of_the_name_does():
    assert labels(SETTINGS[:1], 18) == {SETTINGS[0]: "kv4:\nread=transformers,\nresidual_length=64"}
    assert labels(["int8"], 18) == {"int8": "int8"}
    assert labels(["a" * 40], 18) == {"a" * 40: f"{'a' * 18}\n{'a' * 18}\n{'a' * 4}"}


def test_no_two_variants_share_a_label_however_long_and_alike_their_names_are():
    names = [f"checkpoint={'x' * 100}{middle}{'y' * 100}" for middle in "ab"]
    found = labels(names, 18)
    assert len(set(found.values())) == 2
    assert all(len(label) <= NAME_LIMIT for label in found.values())


@pytest.mark.parametrize("section", ["heatmap", "forest", "groups"])
def test_two_settings_that_differ_at_their_end_differ_in_the_picture(section):
    figure = next(figure for figure in figures(view(strategies=SETTINGS)) if figure.section == section)
    for file in (False, True):
        root = ET.fromstring(to_svg(figure.draw(file=file)))
        printed = " ".join("".join(text.itertext()) for text in root.iter() if text.tag.endswith("text"))
        assert "residual_length=64" in printed and "residual_length=32" in printed
        assert "Int4" in printed and "Int8" in printed and "…" not in printed
