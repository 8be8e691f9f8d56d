"""The coherence gate: is there still a model to judge? A lower bias from text that rots is no improvement.

Input is the text quality of base and variant (a variant's `text_quality` block): perplexity on a given text, and per
generating cell the shares of answers that are empty, unparsed, contradictory, repetitive or in another script, words
per answer, the share ended by an end token, and the log-likelihood of the variant's own answers under the BASE model.

Every threshold is relative to the base, so a model that never wrote well is not punished for it. Evidence comes in
two strengths: one decisive finding closes the gate, or two supporting ones. Parse rate, length and perplexity alone
miss real rot (a 2:4-pruned model whose answers all parse, end and flow, 39 % of them malformed); what sees it is how
implausible its answers are to the base, and contradictions inside an answer.

What counts where: text that rots in any generating cell of a format discredits every row of that variant and format,
scored probabilities included; no longer answering discredits only the cell in which it happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltmeter.messages import Message, Text, join, say


@dataclass(frozen=True)
class Thresholds:
    """Decisive limits; a supporting finding is half of the rise (of the log ratio for `perplexity` and `words`)."""

    perplexity: float = 3.0  # times the base's
    implausible: float = 0.25  # rise of the share of answers less likely than nearly all of the base's own
    contradictory: float = 0.10  # rises of shares of answers
    empty: float = 0.20
    repeated: float = 0.30
    other_script: float = 0.10
    unparsed: float = 0.30
    words: float = 4.0  # times more or fewer words; never decisive: shorter answers may be good ones
    eos_rate: float = 0.60  # fall; never decisive


SLACK = 0.25  # nats per token below the base's 5 % quantile (at least) before an answer is called implausible
FEWEST = 12  # answers behind a share before it counts
ROT = ("implausible", "contradictory", "empty", "repeated", "other_script")


@dataclass(frozen=True)
class Finding:
    sentence: Text
    decisive: bool
    stopped_answering: bool = False  # counts only in the cell it was found in


def unusable(
    base: Mapping[str, Any],
    variant: Mapping[str, Any],
    benchmark: str,
    text_format: str,
    decoding: str,
    thresholds: Thresholds = Thresholds(),
) -> Message | None:
    """The evidence that closes the gate for one row, as one clause of a sentence; None while it stays open.

    base, variant: text-quality blocks ({} when not measured: the gate then stays open, there being no evidence).
    """
    general = _perplexity(base, variant, thresholds)
    own = f"{benchmark} {text_format} {decoding}"
    for cell in variant.get("answers", {}):
        if cell.split(" ")[1:2] != [text_format]:
            continue
        found = general + cell_findings(base.get("answers", {}).get(cell, {}), variant["answers"][cell], thresholds)
        if cell != own:
            found = [finding for finding in found if not finding.stopped_answering]
        decisive = [finding for finding in found if finding.decisive]
        if decisive or len(found) >= 2:
            evidence = join("join.clauses", [f.sentence for f in decisive or found])
            return evidence if cell == own else say("rot.seen_in", evidence=evidence, cell=cell)
    decisive = [finding for finding in general if finding.decisive]
    return join("join.clauses", [f.sentence for f in decisive]) if decisive else None


def cell_findings(
    base: Mapping[str, Any], variant: Mapping[str, Any], limits: Thresholds = Thresholds()
) -> list[Finding]:
    """Findings of one generating cell, strongest kinds first. Numbers that either lacks give none."""
    if min(base.get("n") or 0, variant.get("n") or 0) < FEWEST:
        return []
    found = []
    for name in (*ROT, "unparsed"):
        before, after = (
            _implausible(base, side) if name == "implausible" else side.get(name) for side in (base, variant)
        )
        if before is None or after is None:
            continue
        rise, limit = after - before, getattr(limits, name)
        if rise >= limit / 2:
            sentence = say(f"rot.{name}", after=f"{100 * after:.0f}", before=f"{100 * before:.0f}")
            found.append(Finding(sentence, rise >= limit, name == "unparsed"))
    words = base.get("words"), variant.get("words")
    if all(words) and abs(np.log(words[1] / words[0])) >= np.log(limits.words) / 2:  # type: ignore[operator]
        found.append(Finding(say("rot.words", after=f"{words[1]:.0f}", before=f"{words[0]:.0f}"), False))
    ended = base.get("eos_rate"), variant.get("eos_rate")
    if None not in ended and ended[0] - ended[1] >= limits.eos_rate / 2:  # type: ignore[operator]
        after, before = (f"{100 * share:.0f}" for share in ended[::-1])  # type: ignore[operator]
        found.append(Finding(say("rot.ended", after=after, before=before), False))
    return found


def _implausible(base: Mapping[str, Any], side: Mapping[str, Any]) -> float | None:
    """Share of answers far less likely under the base (mean nats per token) than nearly all of the base's own.

    The line lies below the base's own 5 % quantile by twice its distance from the median, at least by SLACK: a base
    whose likelihoods vary much (numbers it hardly knows) gives its variants as much room.
    """
    own, given = base.get("base_logprobs"), side.get("base_logprobs")
    if not own or not given or min(len(own), len(given)) < FEWEST:
        return None
    low, middle = np.quantile(own, [0.05, 0.5])
    return float(np.mean(np.asarray(given) < low - max(SLACK, 2 * (middle - low))))


def _perplexity(base: Mapping[str, Any], variant: Mapping[str, Any], limits: Thresholds) -> list[Finding]:
    before, after = base.get("perplexity"), variant.get("perplexity")
    if not before or not after or after / before < limits.perplexity**0.5:
        return []
    sentence = say("rot.perplexity", after=f"{after:.3g}", before=f"{before:.3g}")
    return [Finding(sentence, after / before >= limits.perplexity)]
