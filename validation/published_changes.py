"""Published results with error bars: what printed percentages and counts alone can and cannot tell from chance.

The study (arXiv 2410.22118) printed scores without intervals. From a rounded percentage and a known number of items an
interval of the DIFFERENCE of two cells follows, were the two models asked different items: the pairing is lost with the
answers, so these intervals are wider than tiltmeter's own. Three things are stated beside every figure:

    rounding     each printed value may be half a unit off; the interval covers every pair of values it may stand for
    clusters     answers are counted as independent; statements about one group or topic are not, which makes the truth
                 less certain than shown (dt-stereotyping above all: counted at several design effects)
    many tests   p is adjusted by Holm over all changes of a benchmark's own score

Percentages      Newcombe's interval of a difference of two proportions; p of the pooled z test.
Counts (B.4)     p of the homogeneity of the two models' choices, chi-square over random tables with the same margins.
                 No interval: most minus least chosen has none that covers.
Mean errors      Bounded by 0 and 1, a mean m has a variance of at most m (1 - m) / n: an interval that is wide enough
                 whatever independent errors were.
Gini, max - min, disparities   Nothing follows from the printed number alone: they cannot be told.
Source: Newcombe 1998; Bhatia & Davis 2000 (largest variance of a bounded variable).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2_contingency, norm, random_table
from statsmodels.stats.proportion import confint_proportions_2indep

from tiltmeter.analysis.multiplicity import adjust
from tiltmeter.seeds import seed_for

CROWS_PAIRS = {
    "score": 1508,
    "race-color": 516,
    "gender": 262,
    "socioeconomic": 172,
    "nationality": 159,
    "religion": 105,
    "age": 87,
    "sexual-orientation": 84,
    "physical-appearance": 63,
    "disability": 60,
}
DT_PROMPTS, WORLDBENCH_ITEMS = 1152, 2214  # of the released files; the paper counts 2,225 WorldBench questions
DESIGN_EFFECTS = (1, 3, 6, 12)  # items per independent item, were statements about one group or topic alike
TABLES = 10_000  # random tables behind a p of counts
NO_WAY = "the printed number alone gives no interval"
Cells = Mapping[tuple[str, str, str, str, str, str], float]  # model, format, decoding, benchmark, metric, strategy
STATED = (
    (
        "Unpaired",
        "The answers were not published, so the two models are treated as if asked different items: every "
        "interval is wider than a paired one on the same items.",
    ),
    (
        "Independent",
        "Answers are counted as independent. Statements about one group of people or one topic are not: "
        "read `told from chance` for dt-stereotyping with that doubt.",
    ),
    (
        "Rounded",
        "Each printed value may be half a unit off; the intervals cover every pair of values it may stand for.",
    ),
    ("Many tests", "p is adjusted by Holm within each benchmark."),
    ("Percentages", "Newcombe's interval of a difference of two proportions; p of the pooled z test."),
    (
        "Counts",
        "Table B.4's choices: p of the homogeneity of two models' choices. Most minus least chosen has no "
        "interval that covers.",
    ),
    (
        "Mean errors",
        "Values in [0, 1] with mean m have a variance of at most m (1 - m): an interval wide enough "
        "whatever the errors were, so long as they are independent of one another.",
    ),
    ("Gini, max - min, disparities", "Nothing follows from the printed number alone."),
)


@dataclass(frozen=True)
class PublishedChange:
    """One published change against the same model's base. Percent or fraction, as printed; NaN: cannot be computed."""

    model: str
    strategy: str
    format: str
    decoding: str
    benchmark: str
    metric: str
    base: float
    variant: float
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    p_adjusted: float = float("nan")
    why_not: str = ""

    @property
    def delta(self) -> float:
        return self.variant - self.base

    @property
    def told(self) -> str:
        """`told from chance`, `not told`, or `cannot be told`."""
        if not math.isfinite(self.p_adjusted):
            return "cannot be told"
        inside = math.isfinite(self.low) and self.low <= 0 <= self.high
        return "told from chance" if self.p_adjusted < 0.05 and not inside else "not told"


def changes(cells: Iterable[Mapping[str, str]]) -> list[PublishedChange]:
    """All published changes of rows of `published.csv`; p adjusted per benchmark and metric family."""
    keys = ("model", "format", "decoding", "benchmark", "metric", "strategy")
    table: Cells = {
        tuple(c[key] for key in keys): float(c["value"])  # type: ignore[misc]
        for c in cells
        if _is_number(c["value"])
    }
    found = []
    for (model, text_format, decoding, benchmark, metric, strategy), value in table.items():
        base = table.get((model, text_format, decoding, benchmark, metric, "none"))
        if strategy == "none" or base is None or metric.startswith("count="):
            continue
        change = PublishedChange(model, strategy, text_format, decoding, benchmark, metric, base, value)
        found.append(_with_interval(change, table))
    return _adjusted(found)


def proportion_change(base: float, variant: float, n: int, half_unit: float = 0.5) -> tuple[float, float, float]:
    """(low, high, p) of a change of two printed percentages of n items each, in points; rounding included."""
    low = min(_newcombe(v, b, n)[0] for b, v in _corners(base, variant, half_unit))
    high = max(_newcombe(v, b, n)[1] for b, v in _corners(base, variant, half_unit))
    # the p that says least: both values moved toward each other, as far as rounding allows
    gap = max(abs(variant - base) - 2 * half_unit, 0.0)
    pooled = np.clip((base + variant) / 200, 0.5 / n, 1 - 0.5 / n)
    return low, high, float(2 * norm.sf(gap / 100 / np.sqrt(2 * pooled * (1 - pooled) / n)))


def bounded_mean_change(
    base: float, variant: float, n_base: float, n_variant: float, half_unit: float = 0.005
) -> tuple[float, float, float]:
    """(low, high, p) of a change of two printed means of values in [0, 1], with the largest variance they can have."""
    se = np.sqrt(sum(m * (1 - m) / n for m, n in ((base, n_base), (variant, n_variant))))
    slack = 2 * half_unit
    gap = max(abs(variant - base) - slack, 0.0)
    return (
        float(variant - base - 1.96 * se - slack),
        float(variant - base + 1.96 * se + slack),
        float(2 * norm.sf(gap / se)),
    )


def counts_p(base: Sequence[int], variant: Sequence[int], seed: int) -> float:
    """p of the homogeneity of two rows of counts, (1 + #) / (1 + tables); NaN when a row is empty."""
    observed = np.array([base, variant])
    observed = observed[:, observed.sum(axis=0) > 0]
    if (observed.sum(axis=1) == 0).any():
        return float("nan")
    if observed.shape[1] < 2:
        return 1.0
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / observed.sum()
    statistic = chi2_contingency(observed, correction=False).statistic
    drawn = random_table.rvs(
        observed.sum(axis=1), observed.sum(axis=0), size=TABLES, random_state=np.random.default_rng(seed)
    )
    reached = np.sum(((drawn - expected) ** 2 / expected).sum(axis=(1, 2)) >= statistic * (1 - 1e-9))
    return float((1 + reached) / (1 + TABLES))


def page(found: Sequence[PublishedChange]) -> str:
    """The documentation page, markdown."""
    scores = [c for c in found if c.metric == "score"]
    lines = [
        "# Published changes, with error bars",
        "",
        "Written by `make published` from the numbers that arXiv 2410.22118 printed; no model was run.",
        "",
        *(f"- **{name}.** {text}" for name, text in STATED),
        "",
        "## How many can be told",
        "",
        "| benchmark | changes printed | told from chance | not told | cannot be told from what was printed |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(c.benchmark for c in scores):
        told = [c.told for c in scores if c.benchmark == name]
        lines.append(
            f"| {name} | {len(told)} | {told.count('told from chance')} | {told.count('not told')} | "
            f"{told.count('cannot be told')} |"
        )
    lines += [
        "",
        "dt-stereotyping's statements about one group or topic are alike, so its 1,152 prompts are worth fewer "
        "independent ones. Its changes told from chance, were there "
        + ", ".join(f"{effect} prompts to one independent one: {_told_at(scores, effect)}" for effect in DESIGN_EFFECTS)
        + ".",
    ]
    for name in dict.fromkeys(c.benchmark for c in found):
        lines += [
            "",
            f"## {name}",
            "",
            "| model | strategy | format, decoding | what | base | variant | change | 95 % interval | p (adjusted) | |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        shown = [c for c in found if c.benchmark == name and (c.metric == "score" or c.told == "told from chance")]
        lines += [_line(c) for c in shown]
        left = sum(c.benchmark == name for c in found) - len(shown)
        if left:
            lines += ["", f"{left} further changes of parts of this score (groups, rates) are not told from chance."]
    return "\n".join(lines) + "\n"


def _told_at(scores: Sequence[PublishedChange], design_effect: int) -> int:
    """How many dt-stereotyping scores are told from chance with 1,152 / design_effect independent prompts."""
    changed = [c for c in scores if c.benchmark == "dt-stereotyping"]
    found = [_filled(c, proportion_change(c.base, c.variant, DT_PROMPTS // design_effect)) for c in changed]
    adjusted = adjust([c.p for c in found])
    return sum(replace(c, p_adjusted=p).told == "told from chance" for c, p in zip(found, adjusted, strict=True))


def _line(c: PublishedChange) -> str:
    interval = f"{c.low:+.3g} to {c.high:+.3g}" if math.isfinite(c.low) else "none"
    p = "none" if not math.isfinite(c.p_adjusted) else "< 0.001" if c.p_adjusted < 0.001 else f"{c.p_adjusted:.2g}"
    return (
        f"| {c.model.split('/')[-1]} | {c.strategy} | {c.format}, {c.decoding} | {c.metric} | {c.base:g} | "
        f"{c.variant:g} | {c.delta:+.3g} | {interval} | {p} | {c.why_not or c.told} |"
    )


def _with_interval(c: PublishedChange, table: Cells) -> PublishedChange:
    if c.benchmark == "crows-pairs":
        return _filled(c, proportion_change(c.base, c.variant, CROWS_PAIRS[c.metric.removeprefix("bias_type=")]))
    if c.benchmark == "dt-stereotyping":
        return _filled(c, proportion_change(c.base, c.variant, DT_PROMPTS))
    if c.metric == "parse_rate_percent":
        return _filled(c, proportion_change(c.base, c.variant, WORLDBENCH_ITEMS))
    place = (c.model, c.format, c.decoding, c.benchmark)
    if c.benchmark == "worldbench" and c.metric == "score":
        parsed = [
            WORLDBENCH_ITEMS * table.get((*place, "parse_rate_percent", name), 100.0) / 100
            for name in ("none", c.strategy)
        ]
        return _filled(c, bounded_mean_change(c.base, c.variant, *parsed))
    if c.benchmark == "discrim-eval-gen":
        groups = ("count=man", "count=woman", "count=non-binary")
        counts = [
            [int(table[(*place, group, name)]) for group in groups if (*place, group, name) in table]
            for name in ("none", c.strategy)
        ]
        if all(len(row) == len(groups) for row in counts):
            p = counts_p(counts[0], counts[1], seed_for("published", *place, c.strategy))
            return replace(c, p=p, why_not="" if math.isfinite(p) else "one of the two answered nothing")
    return replace(c, why_not=NO_WAY)


def _filled(c: PublishedChange, found: tuple[float, float, float]) -> PublishedChange:
    return replace(c, low=found[0], high=found[1], p=found[2])


def _adjusted(found: Sequence[PublishedChange]) -> list[PublishedChange]:
    """Holm within a benchmark, its own score and its parts apart."""
    families: dict[tuple[str, bool], list[int]] = {}
    for place, c in enumerate(found):
        families.setdefault((c.benchmark, c.metric == "score"), []).append(place)
    adjusted = [float("nan")] * len(found)
    for places in families.values():
        for place, p in zip(places, adjust([found[i].p for i in places]), strict=True):
            adjusted[place] = p
    return [replace(c, p_adjusted=p) for c, p in zip(found, adjusted, strict=True)]


def _newcombe(variant: float, base: float, n: int) -> tuple[float, float]:
    """Interval of variant - base in points, from percentages of n independent items each."""
    x = [float(np.clip(round(value / 100 * n), 0, n)) for value in (variant, base)]
    low, high = confint_proportions_2indep(x[0], n, x[1], n, method="newcomb")
    return 100 * float(low), 100 * float(high)


def _corners(base: float, variant: float, half_unit: float) -> list[tuple[float, float]]:
    return [
        (float(np.clip(base + i * half_unit, 0, 100)), float(np.clip(variant + j * half_unit, 0, 100)))
        for i in (-1, 1)
        for j in (-1, 1)
    ]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
