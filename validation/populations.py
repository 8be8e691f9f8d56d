"""Simulated pairs of models with a known change, at each benchmark's real number of items and clusters.

Every population is the same thought: items carry a latent tendency (a log-ratio, a log-odds, a log error), clusters and
groups share part of it, and a model reads it with noise. Three relations between base and variant:

    N0    both read the tendency with their own noise: exchangeable, nothing changed
    N1    variant = base + noise unrelated to group: less accurate, no group treated differently
    real  the variant's group effects, or its whole tendency, are moved as well

Parametric; no real model's answers. Each function returns the `Comparison` the benchmark itself would build.
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
from tiltmeter.analysis.types import Comparison
from tiltmeter.registry import build

BENCHMARKS = ("crows-pairs", "dt-stereotyping", "worldbench", "discrim-eval", "global-opinion-qa", "discrim-eval-gen")
OF = {name: build("benchmark", name) for name in BENCHMARKS}


@dataclass(frozen=True)
class Scenario:
    """null "N0"/"N1"/"real"; noise: sd of the logit noise; effect: size of the real change; base: base level or gap.

    structured: share of the noise variance that whole groups or clusters have in common within a question.
    """

    name: str
    noise: float
    null: str = "N1"
    effect: float = 0.0
    base: float = 0.0
    structured: float = 0.0
    items: int | None = None  # other than the benchmark's own number of items or questions


def readings(rng: np.random.Generator, tendency: np.ndarray, s: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Base and variant readings of the tendency, before any real change."""
    first, second = s.noise * rng.standard_normal((2, *tendency.shape))
    return (tendency + first, tendency + second) if s.null == "N0" else (tendency, tendency + first)


def crows_pairs(rng: np.random.Generator, s: Scenario) -> Comparison:
    """Log-ratio N(base, 1) per pair; effect shifts the variant's. Preferred when positive."""
    b, v = readings(rng, s.base + rng.standard_normal(s.items or 1508), s)
    v = v + s.effect
    return preferences(OF["crows-pairs"], (b > 0).astype(float), (v > 0).astype(float), margin=2.0, ratios=(b, v))


def dt_stereotyping(rng: np.random.Generator, s: Scenario) -> Comparison:
    """24 groups x 16 topics x 3 statements; effects of group, topic and cell of sd .7, .7, .4; base is the intercept.

    `structured` is the sd of a change of each group and topic of its own: clustered change without a mean.
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
    v = v + s.effect + s.structured * (rng.standard_normal(24)[group] + rng.standard_normal(16)[topic])
    names = (tuple(map(str, range(24))), tuple(map(str, range(16))))
    comparison = agreement(
        OF["dt-stereotyping"],
        (b > 0).astype(float),
        (v > 0).astype(float),
        Grouping("target_group", group, names[0]),
        Grouping("topic", topic, names[1]),
        margin=2.0,
    )
    return replace(comparison, groups=())


def worldbench(rng: np.random.Generator, s: Scenario) -> Comparison:
    """207 countries in 7 regions, about 10 statistics each, 97 % parsed; log error N(region + country, .5)."""
    sizes = np.array([37, 58, 42, 21, 3, 8, 38])
    region = np.repeat(np.arange(7), sizes)
    country = np.repeat(np.arange(len(region)), rng.integers(9, 12, len(region)))
    gap = s.base * np.linspace(-1, 1, 7)
    tendency = (gap[region] + 0.3 * rng.standard_normal(len(region)))[country] + 0.5 * rng.standard_normal(len(country))
    b, v = readings(rng, tendency, s)
    v = v + s.effect * (gap[region][country] if s.base else 1.0)
    errors = [np.where(rng.random(len(country)) < 0.97, 1 - np.exp(-np.exp(x - 1)), np.nan) for x in (b, v)]
    regions = Grouping("region", region[country], tuple("abcdefg"))
    return replace(relative_errors(OF["worldbench"], *errors, country, (regions,), margin=0.02), groups=())


LEVELS = (
    ("age", tuple(map(str, range(20, 101, 10))), "60"),
    ("race", tuple("wbahn"), "w"),
    ("gender", tuple("mfn"), "m"),
)


def discrim_eval(rng: np.random.Generator, s: Scenario) -> Comparison:
    """70 questions x 9 ages x 5 races x 3 genders; a common gap of size `base` (the spread D), question gaps of sd .05.

    Noise: independent per cell, a share `structured` of its variance common to a question's cells of one level.
    """
    n = s.items or 70
    shape = (n, 9, 5, 3)
    intercept = rng.normal(0.5, 1.0, n)[:, None, None, None]
    unit = _unit_effects()
    own = sum(_per_level(rng, shape, axis, 0.05) for axis in (1, 2, 3))

    def noise() -> np.ndarray:
        whole = s.noise * np.sqrt(1 - s.structured) * rng.standard_normal(shape)
        return whole + sum(_per_level(rng, shape, axis, s.noise * np.sqrt(s.structured / 3)) for axis in (1, 2, 3))

    common = intercept + own + s.base * unit
    b = common + (noise() if s.null == "N0" else 0.0)
    v = common + s.effect * unit + noise()
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
    b, v = readings(rng, 1.3 * level + 0.7 * rng.standard_normal((n, most)) + s.base * pull, s)
    v = v + s.effect * pull
    distances, contrasts = [], []
    held = np.where(asked[..., None], human, 0.0)
    centred = held - held.sum(axis=1, keepdims=True) / np.maximum(asked.sum(axis=1), 1)[:, None, None]
    several = asked & (asked.sum(axis=1) >= 2)[:, None]
    for logits in (b, v):
        p = _softmax(logits, open_to)
        gap = np.abs(np.cumsum(human - p[:, None], axis=2))[..., :-1].sum(axis=2)
        distances.append(np.where(asked, gap, np.nan))
        log_p = np.where(open_to, np.log(np.maximum(p, 1e-300)), 0.0)
        contrasts.append(np.where(several, -np.einsum("qco,qo->qc", centred, log_p), np.nan))
    return replace(
        country_distances(
            OF["global-opinion-qa"], *distances, *contrasts, tuple(map(str, range(countries))), n_paired=n, margin=0.02
        ),
        groups=(),
    )


def _softmax(logits: np.ndarray, open_to: np.ndarray) -> np.ndarray:
    weights = np.where(open_to, np.exp(logits), 0.0)
    return weights / weights.sum(axis=-1, keepdims=True)


def discrim_eval_gen(rng: np.random.Generator, s: Scenario) -> Comparison:
    """70 questions (or `items` of them answered), three choices; choice = largest of base x (1, 0, -1) + N(0, 1)."""
    n = s.items or 70
    lean = np.array([1.0, 0.0, -1.0])
    b, v = readings(rng, s.base * lean + rng.standard_normal((n, 3)), s)
    return choices(
        OF["discrim-eval-gen"],
        b.argmax(axis=1),
        (v + s.effect * lean).argmax(axis=1),
        ("a", "b", "c"),
        "gender",
        margin=0.1,
    )
