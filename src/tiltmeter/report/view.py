"""A results document as the report's parts see it: rows with names, verdict signs and printed numbers.

Nothing is computed here: values are selected, ordered, counted and formatted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tiltmeter.messages import Text, sentence
from tiltmeter.printed import NONE, defined, digits, interval, number, p_value, signed
from tiltmeter.report.words import Told, Words

Row = dict[str, Any]
VERDICTS = ("worse", "better", "equivalent", "inconclusive", "not exercised", "no usable signal")
SIGNS = {
    "worse": "▲",
    "better": "▼",
    "equivalent": "＝",
    "inconclusive": "?",
    "not exercised": "∅",
    "no usable signal": "✕",
    "": "–",
}
CONTROLS = ("rerun", "dtype", "assisted")  # strategies that measure noise, not acceleration


@dataclass(frozen=True)
class Panel:
    """Rows asked the same way: one model, format, decoding."""

    model: str
    format: str
    decoding: str
    strategies: tuple[str, ...]
    benchmarks: tuple[str, ...]


def is_toy(model: str) -> bool:
    """The built-in demonstration model: its world is invented, and the page must say so."""
    return "tiltmeter/demo/" in model.replace("\\", "/")


class View:
    """Read access to one results document in one language."""

    def __init__(self, document: dict[str, Any], words: Words) -> None:
        self.document, self.words = document, words
        self.rows: list[Row] = document["rows"]
        self.run: dict[str, Any] = document.get("run", {})
        self.variants: list[dict[str, Any]] = document.get("variants", [])
        self._place = {id(row): place for place, row in enumerate(self.rows)}

    @cached_property
    def compared(self) -> list[Row]:
        """Rows that have a change."""
        return [row for row in self.rows if row.get("change")]

    @cached_property
    def models(self) -> list[str]:
        return list(dict.fromkeys(row["model"] for row in self.rows))

    @cached_property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(row["benchmark"] for row in self.rows))

    @cached_property
    def strategies(self) -> list[str]:
        """Strategies of the variants, the base left out, in the run's order."""
        return list(dict.fromkeys(row["strategy"] for row in self.rows if row["strategy"] != "none"))

    @cached_property
    def _bases(self) -> dict[tuple[str, str, str, str], Row]:
        return {
            (row["model"], row["format"], row["decoding"], row["benchmark"]): row
            for row in self.rows
            if row["strategy"] == "none"
        }

    def base_of(self, row: Row) -> Row | None:
        return self._bases.get((row["model"], row["format"], row["decoding"], row["benchmark"]))

    def place(self, row: Row) -> int:
        """Position in the document; names the row in links and in the examples' data."""
        return self._place[id(row)]

    def row_id(self, row: Row) -> str:
        return f"row-{self.place(row)}"

    def panels(self) -> Iterator[Panel]:
        """Models in the run's order, then ways of asking."""
        asked: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            asked.setdefault((row["model"], row["format"], row["decoding"]), []).append(row)
        order = {model: place for place, model in enumerate(self.models)}
        for key in sorted(asked, key=lambda key: (order[key[0]], key[1] != "plain", key[2] != "greedy")):
            yield Panel(
                *key,
                tuple(dict.fromkeys(row["strategy"] for row in asked[key] if row["strategy"] != "none")),
                tuple(dict.fromkeys(row["benchmark"] for row in asked[key])),
            )

    @cached_property
    def _cells(self) -> dict[tuple[str, str, str, str, str], Row]:
        return {
            (row["model"], row["strategy"], row["format"], row["decoding"], row["benchmark"]): row for row in self.rows
        }

    def cell(self, panel: Panel, strategy: str, benchmark: str) -> Row | None:
        return self._cells.get((panel.model, strategy, panel.format, panel.decoding, benchmark))

    def verdict(self, row: Row) -> str:
        """One of VERDICTS, or "" where the run holds none."""
        found = (row.get("change") or {}).get("verdict") or ""
        return found if found in VERDICTS else ""

    def counts(self, rows: list[Row] | None = None) -> dict[str, int]:
        """Verdict -> number of rows, in the order of VERDICTS; rows without one under ""."""
        found = Counter(self.verdict(row) for row in (self.compared if rows is None else rows))
        return {verdict: found[verdict] for verdict in (*VERDICTS, "") if found[verdict]}

    def asked(self, row: Row | Panel) -> str:
        """plain · greedy, in words."""
        shape, decoding = (row.format, row.decoding) if isinstance(row, Panel) else (row["format"], row["decoding"])
        return f"{self.words.name('format', shape)} · {self.words.name('decoding', decoding)}"

    @cached_property
    def asked_one_way(self) -> bool:
        return len({(row["format"], row["decoding"]) for row in self.rows}) < 2

    def short(self, model: str) -> str:
        """A model's name without its folder or owner, unless two would then be the same."""
        if is_toy(model):
            return self.words("answer.demo_model")
        last = model.rstrip("/").rsplit("/", 1)[-1]
        return last if [other.rstrip("/").rsplit("/", 1)[-1] for other in self.models].count(last) == 1 else model

    def strategy(self, name: str) -> str:
        return self.words("strategy.none") if name == "none" else name

    def is_control(self, strategy: str) -> bool:
        """A strategy that measures noise (rerun, dtype alone, speculative decoding), alone or at the end of a chain."""
        return strategy.split("+")[-1].split(":")[0] in CONTROLS

    # stored sentences

    def told(self, text: Text | None) -> Told:
        """A sentence in the report's language, models by their short names."""
        return self.words.told(text, self._short_names)

    @cached_property
    def _short_names(self) -> dict[str, str]:
        return {model: self.short(model) for model in self.models}

    def reason(self, row: Row) -> Told:
        """Why the row has its verdict."""
        return self.told(sentence(row.get("change") or {}, "reason"))

    # printed numbers

    def score(self, row: Row) -> str:
        return number(row["score"], digits(row["unit"]))

    def delta(self, row: Row) -> str:
        return signed((row.get("change") or {}).get("delta"), digits(row["unit"]))

    def ci(self, row: Row) -> str:
        return interval((row.get("change") or {}).get("ci"), digits(row["unit"]))

    def ci_or_none(self, row: Row) -> str:
        """The interval, or words that there is none: for places without a column of its own."""
        found = self.ci(row)
        return self.words("word.no_interval") if found == NONE else found

    def unit(self, row: Row) -> str:
        """Unit of a change: points where the score is in percent."""
        return self.words("unit.points") if row["unit"] == "percent" else self.words.name("unit", row["unit"])

    def p(self, row: Row) -> str:
        change = row.get("change") or {}
        return p_value(change["p_adjusted"] if defined(change.get("p_adjusted")) else change.get("p"))

    def has_change(self, row: Row) -> bool:
        return defined((row.get("change") or {}).get("delta"))

    def spread(self, row: Row) -> str:
        """Base -> variant of the noise-corrected spread the verdict rests on; empty where it rests on the score."""
        change = row.get("change") or {}
        spread = (change.get("spreads") or [{}])[0]
        if not self.rests_on_companion(row) or not (defined(spread.get("base")) and defined(spread.get("variant"))):
            return ""
        return f"{number(spread['base'], 2)} → {number(spread['variant'], 2)}"

    def rests_on_companion(self, row: Row) -> bool:
        change = row.get("change") or {}
        if "rests_on" in change:
            return bool(change["rests_on"] == "spread") and defined(change.get("companion_delta"))
        return bool(change.get("companion")) and defined(change.get("companion_delta"))

    def label(self, row: Row) -> str:
        """model · strategy · benchmark (· how asked, where that differs within the run)."""
        parts = [self.short(row["model"])] if len(self.models) > 1 else []
        parts += [self.strategy(row["strategy"]), row["benchmark"]]
        return " · ".join(parts if self.asked_one_way else [*parts, self.asked(row)])

    def sentence(self, row: Row) -> str:
        """The row in one line, for screen readers and tooltips: change, interval, verdict."""
        verdict = self.words(f"verdict.{self.verdict(row) or 'none'}")
        return self.words(
            "row.sentence",
            label=self.label(row),
            delta=self.delta(row),
            unit=self.unit(row),
            ci=self.ci(row),
            verdict=verdict,
        )
