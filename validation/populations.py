"""Simulated pairs of models with a known change, at each benchmark's real number of items and clusters.

Every population is the same thought: items carry a latent tendency (a log-ratio, a log-odds, a log error), clusters and
groups share part of it, and a model reads it with noise. Relations between base and variant:

    N0    both read the tendency with their own noise: exchangeable, nothing changed
    N1    variant = base + noise unrelated to group: less accurate, no group treated differently
    N2    variant = beta x base + noise: every decision weaker (or stronger) alike
    real  the variant's group effects, or its whole tendency, are moved as well

`shape` names what else is the matter: noise shared in a cluster (battery, topic, statistic, attribute), a reversal, a
rotation, rare large errors, answers that vanish because of what they would have been. Parametric; no real model's
answers. Each function returns the `Comparison` the benchmark itself would build.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tiltmeter.analysis.designs import (
    Grouping,
    agreement,
    choices,
    country_distances,
    preferences,
    probability_gaps,
    relative_errors,
)
from tiltmeter.analysis.slope import instrument
from tiltmeter.analysis.types import Comparison
from tiltmeter.registry import build

BENCHMARKS = ("crows-pairs", "dt-stereotyping", "worldbench", "discrim-eval", "global-opinion-qa", "discrim-eval-gen")
OF = {name: build("benchmark", name) for name in BENCHMARKS}


@dataclass(frozen=True)
class Scenario:
    """null "N0"/"N1"/"N2"/"real"; noise: sd of the logit noise; effect: size of the real change; base: level or gap.

    structured: share of the noise variance that whole groups or clusters have in common within a question.
    truth: what a right verdict may say. "unchanged": neither worse nor shifted nor better. "margin": the change is as
    large as the margin, so `equivalent` is false. Otherwise the verdict that is right; its share is the power.
    """

    name: str
    noise: float
    null: str = "N1"
    effect: float = 0.0
    base: float = 0.0
    structured: float = 0.0
    items: int | None = None  # other than the benchmark's own number of items or questions
    truth: str = "unchanged"
    beta: float = 1.0
    tails: float = np.inf  # degrees of freedom of the noise's t distribution, scaled to the same sd above 2
    shape: str = ""


def noise(rng: np.random.Generator, s: Scenario, shape: tuple[int, ...] | int) -> np.ndarray:
    """Noise of sd `s.noise` (t with 2 df has none: its quartiles are then those of a normal of this sd)."""
    if not np.isfinite(s.tails):
        return s.noise * rng.standard_normal(shape)
    scale = np.sqrt((s.tails - 2) / s.tails) if s.tails > 2 else 0.674 / 0.816
    return s.noise * scale * rng.standard_t(s.tails, shape)


def readings(rng: np.random.Generator, tendency: np.ndarray, s: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Base and variant readings of the tendency, before any real change."""
    first, second = noise(rng, s, tendency.shape), noise(rng, s, tendency.shape)
    return (tendency + first, tendency + second) if s.null == "N0" else (tendency, s.beta * tendency + first)


def crows_pairs(rng: np.random.Generator, s: Scenario) -> Comparison:
    """Log-ratio N(base, 1) per pair; effect shifts the variant's. Preferred when positive.

    length: noise grows with a pair's length; one-sided: `effect` of the pairs turn, all toward the stereotype; vanish:
    the pairs that would have turned toward it are not answered.
    """
    n = s.items or 1508
    tendency = s.base + rng.standard_normal(n)
    b, v = readings(rng, tendency, s)
    if s.shape == "length":
        v = b + (v - b) * np.exp(0.5 * rng.standard_normal(n))
    if s.shape == "one-sided":
        v = np.where((b < 0) & (rng.random(n) < s.effect / max(np.mean(b < 0), 1e-9)), -b, b)
    elif s.shape == "vanish":
        turned = v + s.effect
        v = np.where((turned > 0) & (b <= 0), np.nan, b)
    else:
        v = v + s.effect
    before, after = (np.where(np.isnan(x), np.nan, (x > 0).astype(float)) for x in (b, v))
    return preferences(OF["crows-pairs"], before, after, margin=2.0, ratios=(b, v))


def dt_stereotyping(rng: np.random.Generator, s: Scenario) -> Comparison:
    """24 groups x 16 topics x 3 statements; effects of group, topic and cell of sd .7, .7, .4; base is the intercept.

    `structured` is the sd of a change of each group and topic of its own: clustered change without a mean. topic: the
    change is concentrated in 2 of the 16 topics, `effect` the share of their statements that turn to agreement. vanish:
    those that would have turned to agreement are not answered.
    """
    group, topic = np.repeat(np.arange(24), 48), np.tile(np.repeat(np.arange(16), 3), 24)
    tendency = (
        s.base
        + 0.7 * rng.standard_normal(24)[group]
        + 0.7 * rng.standard_normal(16)[topic]
        + 0.4 * rng.standard_normal((24, 16))[group, topic]
        + rng.standard_normal(1152)
    )
    b, v = readings(rng, tendency, s)
    v = v + s.structured * (rng.standard_normal(24)[group] + rng.standard_normal(16)[topic])
    if s.shape == "topic":
        v = np.where((topic < 2) & (b < 0) & (rng.random(1152) < s.effect), -b, v)
    else:
        v = v + s.effect
    after = (v > 0).astype(float)
    if s.shape == "vanish":
        after = np.where((v > 0) & (b <= 0), np.nan, after)
    kept = np.sort(rng.permutation(1152)[: s.items or 1152])
    names = (tuple(map(str, range(24))), tuple(map(str, range(16))))
    comparison = agreement(
        OF["dt-stereotyping"],
        (b[kept] > 0).astype(float),
        after[kept],
        Grouping("target_group", group[kept], names[0]),
        Grouping("topic", topic[kept], names[1]),
        margin=2.0,
    )
    return replace(comparison, groups=())


SIZES = np.array([37, 58, 42, 21, 3, 8, 38])  # countries of the seven regions


def worldbench(rng: np.random.Generator, s: Scenario) -> Comparison:
    """207 countries in 7 regions and 4 income groups, 10 statistics, 97 % parsed; log error N(region + country, .5).

    effect: the regional gap grows by this factor; everywhere: all errors rise by it. margin: the errors of one region
    (58 countries) rise so that the weighted root of the movement is `effect`. statistic: a change of its own for each
    statistic, sd `structured`. rare: errors of share `structured` jump to 1; rare region: in one region alone, so many
    that the movement is `effect`, and nothing else changes. vanish: answers of the worst region that
    would have been wrong do not parse.
    """
    region = np.repeat(np.arange(7), SIZES)
    income = np.arange(len(region)) % 4
    country, statistic = np.repeat(np.arange(len(region)), 10), np.tile(np.arange(10), len(region))
    gap = s.base * np.linspace(-1, 1, 7)
    tendency = (gap[region] + 0.3 * rng.standard_normal(len(region)))[country] + 0.5 * rng.standard_normal(len(country))
    b, v = readings(rng, tendency, s)
    if s.shape == "statistic":
        v = v + s.structured * rng.standard_normal(10)[statistic]
    if s.shape == "everywhere":
        v = v + s.effect
    elif s.shape not in ("margin", "vanish"):
        v = v + s.effect * gap[region][country]
    errors = [1 - np.exp(-np.exp(x - 1)) for x in (b, v)]
    if s.shape == "rare":
        errors[1] = np.where(rng.random(len(country)) < s.structured, 1.0, errors[1])
    if s.shape == "rare region":
        share = SIZES[1] / SIZES.sum()
        jump = s.effect / np.sqrt(share * (1 - share)) / np.mean(1 - errors[0][region[country] == 1])
        errors[1] = np.where((region[country] == 1) & (rng.random(len(country)) < jump), 1.0, errors[0])
    if s.shape == "margin":
        share = SIZES[1] / SIZES.sum()
        errors[1] = errors[1] + s.effect / np.sqrt(share * (1 - share)) * (region[country] == 1)
    unparsed = np.where(rng.random(len(country)) < 0.03, np.nan, 0.0)
    errors = [x + unparsed for x in errors]
    if s.shape == "vanish":
        errors[1] = np.where((region[country] == 6) & (rng.random(len(country)) < s.effect), np.nan, errors[1])
    kept = np.isin(country, np.sort(rng.permutation(len(region))[: s.items or len(region)]))
    codes = np.unique(country[kept], return_inverse=True)[1]
    regions = Grouping("region", region[country[kept]], tuple("abcdefg"))
    incomes = Grouping("income", income[country[kept]], tuple("wxyz"))
    comparison = relative_errors(
        OF["worldbench"],
        errors[0][kept],
        errors[1][kept],
        codes,
        (regions, incomes),
        margin=0.02,
        statistic=statistic[kept],
    )
    return replace(comparison, groups=())


LEVELS = (
    ("age", tuple(map(str, range(20, 101, 10))), "60"),
    ("race", tuple("wbahn"), "w"),
    ("gender", tuple("mfn"), "m"),
)


def discrim_eval(rng: np.random.Generator, s: Scenario) -> Comparison:
    """70 questions x 9 ages x 5 races x 3 genders; a common gap of size `base` (the spread D), question gaps of sd .05.

    Noise: independent per cell, a share `structured` of its variance common to a question's cells of one level.
    reversal: the gap changes sides; rotation: each race takes the next one's place; gender: the change (`effect` the
    root of its movement) or the noise concerns gender alone; unanswered: but `items` questions lose their answers.
    """
    n = s.items or 70 if s.shape != "unanswered" else 70
    shape = (n, 9, 5, 3)
    intercept = rng.normal(0.5, 1.0, n)[:, None, None, None]
    unit = _unit_effects()
    own = sum(_per_level(rng, shape, axis, 0.05) for axis in (1, 2, 3))

    def read() -> np.ndarray:
        if s.shape == "gender noise":
            return _per_level(rng, shape, 3, s.noise)
        whole = np.sqrt(1 - s.structured) * noise(rng, s, shape)
        return whole + sum(_per_level(rng, shape, axis, s.noise * np.sqrt(s.structured / 3)) for axis in (1, 2, 3))

    common = intercept + own + s.base * unit
    b = common + (read() if s.null == "N0" else 0.0)
    moved = s.effect * unit
    if s.shape == "reversal":
        moved = -2 * s.base * unit
    elif s.shape == "rotation":
        moved = s.base * (np.roll(unit, 1, axis=2) - unit)
    elif s.shape == "gender":
        moved = s.effect * np.sqrt(1.5) * np.array([1.0, -1.0, 0.0])  # mean square 2/3 of the factor's square
    v = s.beta * common + moved + read()
    if s.shape == "unanswered":
        v[s.items :] = np.nan
    p = [1 / (1 + np.exp(-x)) for x in (b, v)]
    return replace(probability_gaps(OF["discrim-eval"], *p, b, v, LEVELS, margin=0.05), groups=())


def _unit_effects() -> np.ndarray:
    """Main effects (1, 9, 5, 3) whose spread D is 1: age carries half of D^2, race and gender a quarter each."""
    age, race, gender = np.linspace(1, -1, 9), np.array([1, -1, 0, 0.5, -0.5]), np.array([1.0, -1.0, 0.0])
    parts = [x * np.sqrt(share / np.mean(x**2)) for x, share in ((age, 0.5), (race, 0.25), (gender, 0.25))]
    return parts[0][None, :, None, None] + parts[1][None, None, :, None] + parts[2][None, None, None, :]


def _per_level(rng: np.random.Generator, shape: tuple[int, ...], axis: int, sd: float) -> np.ndarray:
    return sd * rng.standard_normal([n if i in (0, axis) else 1 for i, n in enumerate(shape)])


def global_opinion_qa(rng: np.random.Generator, s: Scenario) -> Comparison:
    """2,556 questions of 2-5 options, the same 107 countries, about 10 a question; opinions lie along two axes.

    base: how strongly the model leans toward the first country's opinion (western pull); effect: more of it.
    """
    n, countries, most = s.items or 2556, 107, 5
    options = rng.integers(2, most + 1, n)
    open_to = np.arange(most) < options[:, None]  # (questions, options)
    asked = rng.random((n, countries)) < np.geomspace(0.30, 0.035, countries)
    axes = rng.standard_normal((n, 2, most)) * 0.5
    place = np.random.default_rng(0).standard_normal((countries, 2)) * 0.6  # countries are fixed, questions are drawn
    level = rng.standard_normal((n, most))
    opinion = level[:, None] + np.einsum("ca,qao->qco", place, axes) + 0.15 * rng.standard_normal((n, countries, most))
    human = _softmax(opinion, open_to[:, None, :])
    pull = np.einsum("a,qao->qo", np.array([1.0, 0.5]), axes)
    battery = np.arange(n) if s.shape != "battery" else np.minimum(np.arange(n) // 4, n // 4 - 1)
    b, v = readings(rng, 1.3 * level + 0.7 * rng.standard_normal((n, most)) + s.base * pull, s)
    if s.shape == "battery":  # noise along the two axes that the battery's questions share
        axes = axes[battery * 4]
        v = v + s.structured * np.einsum("qa,qao->qo", rng.standard_normal((n, 2))[battery], axes)
    v = v + s.effect * (pull if s.shape != "other axis" else -0.5 * axes[:, 0] - 1.5 * axes[:, 1])
    distances, contrasts, logs = [], [], []
    held = np.where(asked[..., None], human, 0.0)
    average = held.sum(axis=1) / np.maximum(asked.sum(axis=1), 1)[:, None]
    centred = held - average[:, None]
    several = asked & (asked.sum(axis=1) >= 2)[:, None]
    for logits in (b, v):
        p = _softmax(logits, open_to)
        gap = np.abs(np.cumsum(human - p[:, None], axis=2))[..., :-1].sum(axis=2)
        distances.append(np.where(asked, gap, np.nan))
        log_p = np.where(open_to, np.log(np.maximum(p, 1e-300)), 0.0)
        contrasts.append(np.where(several, -np.einsum("qco,qo->qc", centred, log_p), np.nan))
        logs.append(np.where(open_to, log_p, np.nan))
    comparison = country_distances(
        OF["global-opinion-qa"],
        *distances,
        *contrasts,
        tuple(map(str, range(countries))),
        n_paired=n,
        margin=0.02,
        battery=battery,
        slope=instrument(*logs, np.where(open_to, average, np.nan)),
    )
    return replace(comparison, groups=())


def _softmax(logits: np.ndarray, open_to: np.ndarray) -> np.ndarray:
    weights = np.where(open_to, np.exp(logits), 0.0)
    return weights / weights.sum(axis=-1, keepdims=True)


def discrim_eval_gen(rng: np.random.Generator, s: Scenario) -> Comparison:
    """70 questions (or `items` of them answered), three choices; choice = largest of base x (1, 0, -1) + N(0, 1).

    opposite: the base always takes the first, the variant the second. margin: one question in 17 turns from the first
    to the second.
    """
    n = s.items or 70
    lean = np.array([1.0, 0.0, -1.0])
    b, v = readings(rng, s.base * lean + rng.standard_normal((n, 3)), s)
    before, after = b.argmax(axis=1), (v + s.effect * lean).argmax(axis=1)
    if s.shape == "opposite":
        before, after = np.zeros(n, dtype=int), np.ones(n, dtype=int)
    elif s.shape == "margin":  # movement 3 x share^2 = margin^2
        before = np.zeros(n, dtype=int)
        after = (rng.random(n) < 0.10 / np.sqrt(3)).astype(int)
    return choices(OF["discrim-eval-gen"], before, after, ("a", "b", "c"), "gender", margin=0.1)
