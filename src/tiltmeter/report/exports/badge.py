"""A badge: one line of a README that says what a run found of a variant. SVG, English or Chinese.

It never says more than the run: anything harmful comes first; then whatever is missing, partial, undecided or without
signal; "equivalent" stands only where every cell that the study asked for was judged so (or better, or could not have
been changed by the strategy, which is counted apart). The colours are those of the verdicts.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from xml.etree import ElementTree

from tiltmeter.messages import say
from tiltmeter.printed import xml
from tiltmeter.report.exports.subject import Subject
from tiltmeter.report.ink import INK
from tiltmeter.schema import Row, Verdict
from tiltmeter.schema.place import source_of

HEIGHT, PAD, SIZE = 20, 6, 11
FONT = "Verdana, DejaVu Sans, Noto Sans, Noto Sans CJK SC, PingFang SC, sans-serif"
LONGEST = 60  # characters of a variant's name


def files(subject: Subject, when: datetime, lang: str = "en") -> dict[str, str]:
    """badge.svg."""
    return {"badge.svg": svg(subject, lang) + "\n"}


def found(subject: Subject) -> tuple[Verdict, str, dict[str, int]]:
    """(the verdict that gives the colour, key of the message, its numbers)."""
    count = Counter(_standing(row) for row in subject.rows)
    n_missing = sum(
        (m.model, m.strategy) == (subject.variant.model, subject.variant.strategy) for m in subject.run.missing
    )
    unfinished = n_missing or any(check.rule == "finished" for check in subject.gate.checks)
    count[None] += n_missing
    of = sum(count.values())
    for verdict in (Verdict.WORSE, Verdict.SHIFTED):
        if n := sum(_harm(row) is verdict for row in subject.rows):
            return verdict, f"badge.{verdict}", {"n": n, "of": of}
    if n := count[Verdict.NO_USABLE_SIGNAL]:
        return Verdict.NO_USABLE_SIGNAL, "badge.no_usable_signal", {"n": n, "of": of}
    undecided = count[Verdict.INCONCLUSIVE] + count[None]
    if undecided or unfinished or not of:
        return Verdict.INCONCLUSIVE, "badge.inconclusive", {"n": undecided or of, "of": of}
    idle = count[Verdict.NOT_EXERCISED]
    if idle == of:
        return Verdict.NOT_EXERCISED, "badge.not_exercised", {"n": idle, "of": of}
    best = Verdict.BETTER if count[Verdict.BETTER] == of - idle else Verdict.EQUIVALENT
    key = f"badge.{best}" + ("_idle" if idle else "")
    return best, key, {"n": of - idle, "of": of, "idle": idle}


def svg(subject: Subject, lang: str = "en") -> str:
    """The picture, with a title that a screen reader says; every text escaped by the XML writer."""
    verdict, key, numbers = found(subject)
    label = xml(say("badge.label", name=_short(source_of(subject.strategy))).text(lang))
    message = xml(f"{verdict.sign} {say(key, **numbers).text(lang)}")
    whole = f"tiltmeter: {label}: {message.removeprefix(verdict.sign).strip()}"
    widths = [_width(text) + 2 * PAD for text in (label, message)]
    root = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": str(sum(widths)),
            "height": str(HEIGHT),
            "role": "img",
            "aria-label": whole,
            "lang": lang,
        },
    )
    ElementTree.SubElement(root, "title").text = whole
    for x, width, colour in ((0, widths[0], INK["ink"]), (widths[0], widths[1], INK[verdict.colour])):
        box = {"x": str(x), "width": str(width), "height": str(HEIGHT), "fill": colour}
        ElementTree.SubElement(root, "rect", box | ({"class": f"v-{verdict.colour}"} if x else {}))
    group = ElementTree.SubElement(
        root, "g", {"fill": "#fff", "font-family": FONT, "font-size": str(SIZE), "aria-hidden": "true"}
    )
    for x, width, text in ((PAD, widths[0], label), (widths[0] + PAD, widths[1], message)):
        place = {"x": str(x), "y": "14", "textLength": str(width - 2 * PAD)}
        ElementTree.SubElement(group, "text", place).text = text
    return ElementTree.tostring(root, encoding="unicode")


def _standing(row: Row) -> Verdict | None:
    """The row's verdict; None where it is not whole, or was not compared."""
    return row.verdict if row.complete and not row.partial else None


def _harm(row: Row) -> Verdict | None:
    """What a policy would forbid, of the score or of who is answered; partial rows too: harm seen is harm."""
    who = row.change.unanswered.verdict if row.change and row.change.unanswered else None
    harms = [verdict for verdict in (row.verdict, who) if verdict and verdict.harmful]
    return min(harms, key=lambda verdict: verdict.order, default=None)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _width(text: str) -> int:
    """About the width of a text in pixels: the page that shows it has no metrics of its fonts."""
    return round(sum(SIZE if ord(character) >= 0x2E80 else 0.62 * SIZE for character in text))
