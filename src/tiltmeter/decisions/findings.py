"""The study's three questions, from a run's own rows: which bias moves, which strategy moves it, do models agree?

Rows of different units are set side by side in margins: the change of what the verdict rests on (distance from the
ideal, or square root of a spread), signed toward bias, over the smallest change that matters. Controls (`rerun`,
`dtype:` …), rows that were not exercised and rows without usable signal are left out.

What is told              A row counts as moved by its verdict (worse, shifted, better), which is adjusted over all rows
                          of the run: a run in which nothing changed names nothing in at least 95 % of cases.
Ranking                   Effects are shrunken toward 0 before they are ranked, each by what of its square is noise
                          (tau^2 / (tau^2 + se^2), tau^2 the mean square of the effects beyond their errors, at least
                          0): the noisiest row is not the largest.
Agreement of two models   Spearman's rank correlation, over the cells both have, of what strategies do beyond what each
                          model does alone: from every change the mean over its model's strategies on that benchmark
                          is taken off, so that two models which merely lose accuracy do not agree. Chance: strategies
                          swapped within each benchmark; fewer than 6 cells: cannot tell. Signs are compared where
                          both rows moved.
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

from tiltmeter.analysis.distributions import chi2
from tiltmeter.decisions.controls import is_control
from tiltmeter.messages import Message, Text, join, say
from tiltmeter.schema import Change, Place, Row, Verdict
from tiltmeter.seeds import seed_for

FEWEST_CELLS = 6
DRAWS = 999
NOTHING = 1e-9  # margins; strategies that differ by less do nothing of their own


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
    def moved(self) -> bool:
        """Told from chance among all rows of the run."""
        return self.verdict.moved


@dataclass(frozen=True)
class Agreement:
    models: tuple[str, str]
    cells: int
    rank_correlation: float
    p: float  # two-sided, of swapping strategies within benchmarks
    same_sign: int
    both_moved: int


def effects(rows: Sequence[Row], controls: frozenset[str] = frozenset()) -> list[Effect]:
    """The rows that speak to the questions. `controls`: strategies found to be some (`controls_of`)."""
    found = []
    for row in rows:
        change = row.change
        if change is None or is_control(row.strategy, controls) or not change.verdict.judged:
            continue
        value, margin = change.toward_bias, change.margin
        if margin > 0 and math.isfinite(value):
            found.append(Effect(row.place, value / margin, _standard_error(change) / margin, change.verdict))
    return found


def findings(rows: Sequence[Row], *, seed: int = 0, controls: frozenset[str] = frozenset()) -> list[Text]:
    """Plain sentences with their numbers, in the order of the three questions."""
    found = effects(rows, controls)
    if not found:
        return [say("finding.none")]
    sentences: list[Text] = [_most("benchmark", found), _most("strategy", found)]
    models = list(dict.fromkeys(e.model for e in found))
    if len(models) < 2:
        return [*sentences, say("finding.one_model")]
    pairs = list(combinations(models, 2))
    sentences += [_agreement_sentence(agreement(found, pair, seed=seed), len(pairs)) for pair in pairs]
    tested = [(name, interaction(found, name)) for name in dict.fromkeys(e.benchmark for e in found)]
    tested = [(name, result) for name, result in tested if math.isfinite(result[2])]
    return [*sentences, *(_interaction_sentence(name, *result, len(tested)) for name, result in tested)]


def shrunken(found: Sequence[Effect]) -> list[float]:
    """|effect| of each, in margins, without what is likely noise; an effect without a standard error counts as 0."""
    known = [e for e in found if math.isfinite(e.se)]
    tau2 = max(float(np.mean([e.value**2 - e.se**2 for e in known])), 0.0) if known else 0.0
    return [abs(e.value) * tau2 / (tau2 + e.se**2) if math.isfinite(e.se) and tau2 > 0 else 0.0 for e in found]


def agreement(found: Sequence[Effect], models: tuple[str, str], *, seed: int = 0) -> Agreement:
    """Do strategies do the same to two models? NaN below 6 common cells, or where they do nothing of their own."""
    sides = [{e.cell: e for e in found if e.model == model} for model in models]
    cells = [cell for cell in sides[0] if cell in sides[1]]
    moved = [cell for cell in cells if all(side[cell].moved for side in sides)]
    same = sum(sides[0][cell].value * sides[1][cell].value > 0 for cell in moved)
    blocks: dict[Place, list[int]] = {}
    for number, cell in enumerate(cells):
        blocks.setdefault(replace(cell, strategy=""), []).append(number)
    one, other = (np.array([side[cell].value for cell in cells], dtype=float) for side in sides)
    for members in blocks.values():
        for side in (one, other):
            side[members] -= side[members].mean()
    nan = float("nan")
    if len(cells) < FEWEST_CELLS or np.ptp(one) < NOTHING or np.ptp(other) < NOTHING:
        return Agreement(models, len(cells), nan, nan, same, len(moved))
    from scipy.stats import rankdata  # a second of imports, for what few commands need

    # Spearman's correlation is Pearson's of the ranks, and swapping values swaps their ranks
    ranks = [rankdata(side) - (len(cells) + 1) / 2 for side in (one, other)]
    scale = float(np.sqrt(np.prod([np.sum(side**2) for side in ranks])))
    rank = float(ranks[0] @ ranks[1]) / scale
    rng = np.random.default_rng(seed_for(seed, "agreement", *models))
    swapped = np.tile(ranks[1], (DRAWS, 1))
    for members in blocks.values():
        swapped[:, members] = rng.permuted(swapped[:, members], axis=1)
    beyond = int(np.sum(np.abs(swapped @ ranks[0]) / scale >= abs(rank) - 1e-12))
    return Agreement(models, len(cells), rank, (1 + beyond) / (1 + DRAWS), same, len(moved))


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
    sizes = shrunken(found)
    size = {n: float(np.mean([s for e, s in zip(found, sizes) if getattr(e, key) == n])) for n in names}
    told = {n: sum(e.moved for e in found if getattr(e, key) == n) for n in names}
    counts = {n: sum(getattr(e, key) == n for e in found) for n in names}
    ranked = sorted(names, key=lambda n: (-size[n], -told[n]))
    listed = join(
        "join.clauses",
        [say("finding.size", name=n, size=f"{size[n]:.2g}", told=told[n], n=counts[n]) for n in ranked],
    )
    certain = [n for n in ranked if told[n]]
    if not certain:
        answer = say("finding.nothing")
    elif len(names) == 1:
        answer = say("finding.only", name=ranked[0])
    else:
        best = certain[0]
        mine = [e.verdict for e in found if getattr(e, key) == best and e.moved]
        answer = say(
            "finding.best",
            name=best,
            up=mine.count(Verdict.WORSE),
            across=mine.count(Verdict.SHIFTED),
            down=mine.count(Verdict.BETTER),
        )
        if best != ranked[0]:
            answer = say("finding.beside", best=answer, name=ranked[0])
    asked = say("finding.most", question=say(f"finding.{key}"), answer=answer)
    return join("join.sentences", [asked, say("finding.sizes", listed=listed)])


def _agreement_sentence(a: Agreement, tests: int) -> Message:
    """`tests`: pairs of models that are asked about; p is adjusted for them (Bonferroni)."""
    p = min(a.p * tests, 1.0)
    models = join("join.and", a.models)
    signs = say("finding.signs", both=a.both_moved, same=a.same_sign) if a.both_moved else say("finding.no_signs")
    if not math.isfinite(a.rank_correlation):
        return say("finding.few_cells", models=models, n=a.cells, signs=signs)
    told = p < 0.05
    key = "finding.yes" if told and a.rank_correlation > 0 else "finding.no" if told else "finding.cannot_tell"
    return say(
        "finding.agree",
        models=models,
        answer=say(key),
        r=f"{a.rank_correlation:+.2f}",
        p=f"{p:.2g}",
        n=a.cells,
        signs=signs,
    )


def _interaction_sentence(benchmark: str, statistic: float, df: int, p: float, tests: int) -> Message:
    """`tests`: benchmarks that are asked about; p is adjusted for them (Bonferroni)."""
    p = min(max(p, 1e-4) * tests, 1.0)
    key = "finding.interaction" if p < 0.05 else "finding.no_interaction"
    return say(key, benchmark=benchmark, x=f"{statistic:.1f}", df=df, p=f"{p:.2g}")


def _standard_error(change: Change) -> float:
    """From the 95 % interval of `Change.toward_bias`; for a spread by the slope of the square root."""
    if change.rests_on == "spread":
        height = change.spread.base + change.spread.variant if change.spread else 0.0
        ci = change.companion_ci
        return (ci[1] - ci[0]) / 3.92 / height if ci and height > 0 else math.nan
    ci = change.distance_ci
    return (ci[1] - ci[0]) / 3.92 if ci else math.nan
