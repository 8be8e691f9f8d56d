"""Hostile text is visible and inert wherever it is shown."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from report_run import POISON

from tiltmeter import printed


def test_nothing_invisible_stays_invisible():
    shown = printed.clean("a\u202eb\x1b[31mc\x00d\u200be\ufefff\x9bg")
    assert shown == "a⟨U+202E⟩b␛[31mc␀d⟨U+200B⟩e⟨U+FEFF⟩f⟨U+009B⟩g"


@pytest.mark.parametrize("code", [c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) in ("Cc", "Cf")])
def test_no_control_or_format_character_of_unicode_reaches_a_reader(code):
    drawn = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}
    needed = {0x9, 0xA, 0x200C, 0x200D}  # tab, line end, joiners of emoji and of Persian and Indic scripts
    assert (chr(code) in printed.clean(f"a{chr(code)}b")) == (code in drawn | needed)


@pytest.mark.parametrize("code", [0x34F, 0x115F, 0x1160, 0x3164, 0xFFA0, 0xFE00, 0xE0100, 0xE01EF, 0x2028, 0x2029])
def test_letters_that_show_nothing_and_selectors_that_hide_bytes_are_shown(code):
    assert chr(code) not in printed.clean(f"a{chr(code)}b")


@pytest.mark.parametrize("text", ["=1+1", "＝1+1", "\u00a0=1", "\t=1", "+a", "＋a", "-a", "@a", "＠SUM(1)", "\r\n=1"])
def test_no_cell_of_a_csv_file_begins_a_formula(text):
    assert printed.csv_safe(text).lstrip().startswith("'")
    assert printed.csv_safe("-1.5e3") == "-1.5e3"


def test_ordinary_text_of_any_script_is_left_alone():
    text = "Tab\tnew\nline, naïve — 模型, עברית, عربى, 👩🏽‍💻, नमस्ते"
    assert printed.clean(text) == text


def test_a_cut_text_says_how_much_is_missing_and_surrogates_become_printable():
    assert printed.clean("x" * 1_000_000, 10) == "x" * 10 + " … (+999,990)"
    assert printed.clean("a\ud800b").encode() == "a�b".encode()


def test_json_in_a_script_element_cannot_close_it_and_reads_back_as_it_was():
    text = printed.json_for_html({"t": POISON})
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"t": POISON}


def test_latex_shows_commands_instead_of_running_them():
    assert printed.latex("100% \\input{x} $a_b$ #1 & ~^") == (
        r"100\% \textbackslash{}input\{x\} \$a\_b\$ \#1 \& \textasciitilde{}\textasciicircum{}"
    )


def test_markdown_cells_hold_no_markup_no_link_and_no_mention():
    text = printed.markdown("a|b <img> [x](http://evil) @team `c` *d*\njavascript:x")
    assert "|" not in text.replace(r"\|", "") and "<" not in text and "\n" not in text
    assert printed.markdown("GH-12, o/r#12 and $x$") == r"GH- 12, o/r\#12 and \$x\$"
    assert r"\[x\]" in text and "http: //evil" in text and "＠team" in text and "javascript: x" in text
