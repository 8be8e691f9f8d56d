"""Hostile text is visible and inert wherever it is shown."""

from __future__ import annotations

import json

from report_run import POISON

from tiltmeter import printed


def test_nothing_invisible_stays_invisible():
    shown = printed.clean("a\u202eb\x1b[31mc\x00d\u200be\ufefff\x9bg")
    assert shown == "a⟨U+202E⟩b␛[31mc␀d⟨U+200B⟩e⟨U+FEFF⟩f⟨U+009B⟩g"


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
    assert r"\[x\]" in text and "http: //evil" in text and "＠team" in text and "javascript: x" in text
