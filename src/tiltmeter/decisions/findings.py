"""The study's three questions, from a run's own rows: which bias moves, which strategy moves it, do models agree?

Rows of different units are set side by side in margins: the change of what the verdict rests on (distance from the
ideal, or square root of a spread), signed toward bias, over the smallest change that matters. Controls (`rerun`,
`dtype:`), rows that were not exercised and rows without usable signal are left out.

Agreement of two models   Spearman's rank correlation of their changes over the cells both have, with a bootstrap
                          interval over cells; fewer than 6 cells: cannot tell. Signs are compared only where both
                          changes are told from zero: noise has a sign too.
Interaction               within a benchmark, changes = model + strategy + remainder; the remainder against its own
                          standard errors (from the intervals) is a chi-square with (models - 1)(strategies - 1) df.
                          The strategies of one model share its base, so the test is approximate (conservative for
                          differences between strategies).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import chi2, spearmanr

from tiltmeter.decisions.controls import is_control
from tiltmeter.messages import Message, Text, join, say
from tiltmeter.schema import Change, Place, Row, Verdict
from tiltmeter.seeds import seed_for

FEWEST_CELLS = 6
DRAWS = 2_000


@dataclass(frozen=True)
class Effect:
    """One row's change in margins, signed toward bias, with its standard error where it has an interval."""

    place: Place
    value: float
    se: float  # NaN without an interval
    verdict: Verdict

    @property
    def model(self) -> str:
        return self.place.model

    @property
    def strategy(self) -> str:
        return self.place.strategy

    @property
    def benchmark(self) -> str:
        return self.place.benchmark

    @property
    def cell(self) -> Place:
        """The same cell of any model."""
        return replace(self.place, model="")

    @property
    def told_from_zero(self) -> bool:
        return abs(self.value) > 1.96 * self.se if math.isfinite(self.se) else False


@dataclass(frozen=True)
class Agreement:
    models: tuple[str, str]
    cells: int
    rank_correlation: float
    low: float
    high: float
    same_sign: int
    both_told: int


def effects(rows: Sequence[Row]) -> list[Effect]:
    """The rows that speak to the questions."""
    found = []
    for row in rows:
        change = row.change
        if change is None or is_control(row.strategy) or not change.verdict.judged:
            continue
        value, margin = change.toward_bias, change.margin
        if margin > 0 and math.isfinite(value):
            found.append(Effect(row.place, value / margin, _standard_error(change) / margin, change.verdict))
    return found


def findings(rows: Sequence[Row], *, seed: int = 0) -> list[Text]:
    """Plain sentences with their numbers, in the order of the three questions."""
    found = effects(rows)
    if not found:
        return [say("finding.none")]
    sentences: list[Text] = [_most("benchmark", found), _most("strategy", found)]
    models = list(dict.fromkeys(e.model for e in found))
    if len(models) < 2:
        return [*sentences, say("finding.one_model")]
    sentences += [_agreement_sentence(agreement(found, pair, seed=seed)) for pair in combinations(models, 2)]
    sentences += [s for name in dict.fromkeys(e.benchmark for e in found) if (s := _interaction_sentence(found, name))]
    return sentences


def agreement(found: Sequence[Effect], models: tuple[str, str], *, seed: int = 0) -> Agreement:
    """Do two models' changes rank alike and point the same way? NaN below 6 common cells or without variation."""
    sides = [{e.cell: e for e in found if e.model == model} for model in models]
    cells = [cell for cell in sides[0] if cell in sides[1]]
    pairs = np.array([[side[cell].value for side in sides] for cell in cells]).reshape(-1, 2)
    told = [cell for cell in cells if all(side[cell].told_from_zero for side in sides)]
    same = sum(sides[0][cell].value * sides[1][cell].value > 0 for cell in told)
    nan = float("nan")
    if len(cells) < FEWEST_CELLS or (np.ptp(pairs, axis=0) == 0).any():
        return Agreement(models, len(cells), nan, nan, nan, same, len(told))
    rng = np.random.default_rng(seed_for(seed, "agreement", *models))
    draws = [_rank_correlation(pairs[rng.integers(0, len(pairs), len(pairs))]) for _ in range(DRAWS)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Agreement(models, len(cells), _rank_correlation(pairs), float(low), float(high), same, len(told))


def interaction(found: Sequence[Effect], benchmark: str) -> tuple[float, int, float]:
    """(chi-square, df, p) of model x strategy within one benchmark; NaN without a full table of two by two.

    Greedy plain rows and others are different cells: the first place that all models share is taken.
    """
    mine = [e for e in found if e.benchmark == benchmark and e.se > 0]
    for asked in dict.fromkeys(e.place.asked for e in mine):
        table: dict[str, dict[str, Effect]] = {}
        for e in mine:
            if e.place.asked == asked:
                table.setdefault(e.model, {})[e.strategy] = e
        shared = sorted(set.intersection(*(set(row) for row in table.values()))) if table else []
        if len(table) < 2 or len(shared) < 2:
            continue
        values = np.array([[row[s].value for s in shared] for row in table.values()])
        weights = np.array([[row[s].se ** -2 for s in shared] for row in table.values()])
        statistic = _additive_misfit(values, weights)
        df = (len(table) - 1) * (len(shared) - 1)
        return statistic, df, float(chi2.sf(statistic, df))
    return float("nan"), 0, float("nan")


def _additive_misfit(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted squared distance of a table (models, strategies) from its best additive fit."""
    models, strategies = values.shape
    design = np.zeros((values.size, models + strategies))
    design[np.arange(values.size), np.repeat(np.arange(models), strategies)] = 1
    design[np.arange(values.size), models + np.tile(np.arange(strategies), models)] = 1
    root = np.sqrt(weights.ravel())
    fit = np.linalg.lstsq(design * root[:, None], values.ravel() * root, rcond=None)[0]
    return float(np.sum((values.ravel() * root - (design * root[:, None]) @ fit) ** 2))


def _most(key: str, found: Sequence[Effect]) -> Message:
    names = list(dict.fromkeys(getattr(e, key) for e in found))
    size = {name: float(np.median([abs(e.value) for e in found if getattr(e, key) == name])) for name in names}
    ranked = sorted(names, key=lambda name: -size[name])
    told = {name: sum(e.told_from_zero for e in found if getattr(e, key) == name) for name in names}
    counts = {name: sum(getattr(e, key) == name for e in found) for name in names}
    listed = join(
        "join.clauses",
        [say("finding.size", name=name, size=f"{size[name]:.2g}", told=told[name], n=counts[name]) for name in ranked],
    )
    certain = [name for name in ranked if told[name]]
    if not certain:
        answer = say("finding.nothing")
    elif len(names) == 1:
        answer = say("finding.only", name=ranked[0])
    else:
        best = certain[0]
        up = sum(e.value > 0 and e.told_from_zero for e in found if getattr(e, key) == best)
        answer = say("finding.best", name=best, up=up, down=told[best] - up)
        if best != ranked[0]:
            answer = say("finding.beside", best=answer, name=ranked[0])
    asked = say("finding.most", question=say(f"finding.{key}"), answer=answer)
    return join("join.sentences", [asked, say("finding.medians", listed=listed)])


def _agreement_sentence(a: Agreement) -> Message:
    models = join("join.and", a.models)
    signs = say("finding.signs", both=a.both_told, same=a.same_sign) if a.both_told else say("finding.no_signs")
    if not math.isfinite(a.rank_correlation):
        return say("finding.few_cells", models=models, n=a.cells, signs=signs)
    answer = say("finding.yes" if a.low > 0 else "finding.no" if a.high < 0 else "finding.cannot_tell")
    return say(
        "finding.agree",
        models=models,
        answer=answer,
        r=f"{a.rank_correlation:+.2f}",
        low=f"{a.low:+.2f}",
        high=f"{a.high:+.2f}",
        n=a.cells,
        signs=signs,
    )


def _interaction_sentence(found: Sequence[Effect], benchmark: str) -> Message | None:
    statistic, df, p = interaction(found, benchmark)
    if not math.isfinite(p):
        return None
    key = "finding.interaction" if p < 0.05 else "finding.no_interaction"
    return say(key, benchmark=benchmark, x=f"{statistic:.1f}", df=df, p=f"{max(p, 1e-4):.2g}")


def _standard_error(change: Change) -> float:
    """From the 95 % interval of `Change.toward_bias`; for a spread by the slope of the square root."""
    if change.rests_on == "spread":
        height = change.spread.base + change.spread.variant if change.spread else 0.0
        ci = change.companion_ci
        return (ci[1] - ci[0]) / 3.92 / height if ci and height > 0 else math.nan
    ci = change.distance_ci
    return (ci[1] - ci[0]) / 3.92 if ci else math.nan


def _rank_correlation(pairs: np.ndarray) -> float:
    if (np.ptp(pairs, axis=0) == 0).any():
        return float("nan")
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
