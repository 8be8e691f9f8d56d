"""The signed contrasts at their real sizes: BBQ, WinoBias, Winogender, difference awareness.

Every item has a latent margin: half of its variance is its cluster's, and the base decides by its sign. As many plain
questions of skill stand beside the items. Shapes: "lost": a tenth of what the variant would have got right (or would
have called biased) is missing; "margin": the contrast moves away from its ideal by exactly the margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from tiltmeter.analysis.designs import Cells, arm, contrast
from tiltmeter.analysis.types import Comparison
from validation.populations import Scenario

Array = NDArray[np.float64]
FURTHER = 0.7  # three outcomes: margins beyond this on either side are answers, between them "unknown"


def scenarios(name: str) -> list[Scenario]:
    """Noise takes a share of right answers (difference awareness) away from its ideal: `worse` is true there."""
    faded = "open" if name == "difference-awareness" else "unchanged"
    return [
        Scenario("exchangeable", 0.3, "N0"),
        Scenario("much noise", 0.5, "N1", truth=faded),
        Scenario("decisions x .7", 0.2, "N2", beta=0.7, truth=faded),
        Scenario("moved by .3", 0.3, "real", effect=0.3, truth="worse"),
        Scenario("moved by the margin", 0.3, "real", shape="margin", truth="margin"),
        Scenario("a tenth of what was right vanishes", 0.3, "real", shape="lost", truth="margin"),
    ]


@dataclass(frozen=True)
class Layout:
    """Clusters, cells and weights of one design, without any data. three: outcomes are -1, 0, +1, not 0, 1."""

    name: str
    unit: str
    ideal: float
    margin: float
    scale: float
    cells: NDArray[np.intp]
    clusters: NDArray[np.intp]
    weights: tuple[float, ...]
    ideal_at: str
    three: bool = False

    @property
    def away(self) -> int:
        """Sign of a move away from the ideal."""
        return -1 if self.ideal else 1


def layouts() -> list[Layout]:
    """Real numbers of clusters and rows: (clusters, rows) per BBQ category, ambiguous rows alone."""
    bbq = [(25, 1840), (25, 778), (50, 2828), (25, 1540), (25, 788), (50, 3440), (25, 600), (25, 3432), (25, 432)]
    cells, clusters, first = [], [], 0
    for code, (n_clusters, rows) in enumerate(bbq):
        cells += [code] * rows
        clusters += [first + row % n_clusters for row in range(rows)]
        first += n_clusters
    one_in_two = np.arange(2 * 792) % 2
    genders = np.tile([0, 1, 2, 3], 120)
    sets, scenarios, start = [], [], 0
    for code, n_scenarios in enumerate((1000, 1000, 66, 419)):
        sets += [code] * 1000
        scenarios += [start + row % n_scenarios for row in range(1000)]
        start += n_scenarios
    ninth, fourth = (1 / 9,) * 9, (0.25,) * 4
    pro_less_anti, gotcha = (1.0, -1.0), (0.5, -0.5, 0.5, -0.5)
    return [
        Layout("bbq", "fraction", 0.0, 0.02, 1.0, np.array(cells), np.array(clusters), ninth, "inside", three=True),
        Layout("winobias", "points", 0.0, 2.0, 100.0, one_in_two, np.arange(1584) // 4, pro_less_anti, "inside"),
        Layout("winogender", "points", 0.0, 2.0, 100.0, genders, np.arange(480) // 8, gotcha, "inside"),
        Layout(
            "difference-awareness", "fraction", 1.0, 0.02, 1.0, np.array(sets), np.array(scenarios), fourth, "high end"
        ),
    ]


def outcomes(layout: Layout, margins: Array) -> Array:
    if layout.three:
        return np.where(margins > FURTHER, 1.0, np.where(margins < -FURTHER, -1.0, 0.0))
    return (margins > 0).astype(float)


def expected(layout: Layout, shift: float, sd: float) -> float:
    """The contrast where margins are N(.3 + shift, sd) in the direction of their cell's weight."""
    mean = 0.3 + shift
    if layout.three:
        return float(norm.cdf((mean - FURTHER) / sd) - norm.cdf((-FURTHER - mean) / sd))
    share = float(norm.cdf(mean / sd))
    return layout.scale * (2 * share - 1 if min(layout.weights) < 0 else share)


def shift_of_the_margin(layout: Layout, noise: float) -> float:
    """By how much margins must move for the contrast to move by its margin, away from the ideal."""
    sd = float(np.sqrt(1 + noise**2))
    target = expected(layout, 0.0, sd) + layout.away * layout.margin
    return float(brentq(lambda x: expected(layout, x, sd) - target, -1.0, 1.0))


def population(layout: Layout, rng: np.random.Generator, s: Scenario) -> Comparison:
    n = len(layout.cells)
    shared = rng.normal(size=int(layout.clusters.max()) + 1)[layout.clusters]
    sign = np.sign(np.array(layout.weights))[layout.cells]
    items = np.sqrt(0.5) * (shared + rng.normal(size=n)) + 0.3 * sign  # the base has a gap
    skill = rng.normal(size=n) + 0.85  # four fifths right
    sides = []
    for margins in (items, skill):
        base = margins + (rng.normal(scale=s.noise, size=n) if s.null in ("N0", "real") else 0.0)
        sides += [base, s.beta * margins + rng.normal(scale=s.noise, size=n)]
    base, variant, skill_b, skill_v = sides
    moved = shift_of_the_margin(layout, s.noise) if s.shape == "margin" else layout.away * s.effect
    variant = variant + moved * sign
    b, v = outcomes(layout, base), outcomes(layout, variant)
    if s.shape == "lost":
        v = np.where((v > 0) & (rng.random(n) < 0.1), np.nan, v)
    right = ((skill_b > 0).astype(float), (skill_v > 0).astype(float))
    everything = Cells(np.zeros(n, dtype=np.intp), (1.0,))
    same = {"margin": layout.margin, "scale": layout.scale}
    return contrast(
        layout,
        b,
        v,
        Cells(layout.cells, layout.weights),
        layout.clusters,
        **same,
        lowest=-1.0 if layout.three else 0.0,
        leans=(base * sign, np.where(np.isnan(v), np.nan, variant) * sign),
        arms=[arm("skill", "skill", layout, right, everything, layout.clusters, ideal=layout.scale, **same)],
        ideal_at=layout.ideal_at,
        accuracy_like=True,
    )


POPULATIONS: dict[str, Callable[[np.random.Generator, Scenario], Comparison]] = {
    layout.name: partial(population, layout) for layout in layouts()
}
