"""The signed contrasts at their real sizes: BBQ, WinoBias, Winogender, difference awareness.

    python -m validation.contrasts [--replicates 60]

Every item has a latent margin: half of its variance is its cluster's, and the base decides by its sign. Populations:
N0 base and variant exchangeable (the same margins, noise of sd .3 on both); N1 noise of sd .5 on the variant alone;
N2 margins times .7 with noise .2; moved: the margin above plus a true change of the contrast; lost: 10 % of the
variant's answers missing because they would have been right. Prints, per benchmark and population, how often the 95 %
interval holds the mean change of all replicates, and the share of each verdict of a row that is alone in its run.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.designs import Cells, arm, contrast
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.seeds import seed_for

Array = NDArray[np.float64]
DRAWS = 1_000


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
    ninth = (1 / 9,) * 9
    return [
        Layout("bbq", "fraction", 0.0, 0.02, 1.0, np.array(cells), np.array(clusters), ninth, "inside", three=True),
        Layout("winobias", "points", 0.0, 2.0, 100.0, one_in_two, np.arange(1584) // 4, (1.0, -1.0), "inside"),
        Layout("winogender", "points", 0.0, 2.0, 100.0, genders, np.arange(480) // 8, (0.5, -0.5, 0.5, -0.5), "inside"),
        Layout(
            "difference-awareness",
            "fraction",
            1.0,
            0.02,
            1.0,
            np.array(sets),
            np.array(scenarios),
            (0.25,) * 4,
            "high end",
        ),
    ]


def outcomes(layout: Layout, margins: Array) -> Array:
    if layout.three:
        return np.where(margins > 0.7, 1.0, np.where(margins < -0.7, -1.0, 0.0))
    return (margins > 0).astype(float)


def pair(layout: Layout, population: str, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Margins of base and variant in the items of the contrast, and in as many plain questions of skill."""
    n = len(layout.cells)
    shared = rng.normal(size=int(layout.clusters.max()) + 1)[layout.clusters]
    sign = np.sign(np.array(layout.weights))[layout.cells]
    items = np.sqrt(0.5) * (shared + rng.normal(size=n)) + 0.3 * sign  # the base has a gap
    skill = rng.normal(size=n) + 0.85  # four fifths right
    noise = {"N0": 0.3, "N1": 0.5, "N2": 0.2, "moved": 0.3, "lost": 0.3}[population]
    sides = []
    for margins in (items, skill):
        base = margins + (rng.normal(scale=noise, size=n) if population in ("N0", "moved", "lost") else 0.0)
        variant = margins * (0.7 if population == "N2" else 1.0) + rng.normal(scale=noise, size=n)
        sides += [base, variant]
    if population == "moved":
        sides[1] = sides[1] + 0.3 * sign * (-1 if layout.ideal else 1)  # away from the ideal
    return sides[0], sides[1], sides[2], sides[3]


def simulate(layout: Layout, population: str, replicates: int) -> tuple[float, float, Counter[str]]:
    """(mean change, coverage of it, verdicts)."""
    found = []
    everything = Cells(np.zeros(len(layout.cells), dtype=np.intp), (1.0,))
    sign = np.sign(np.array(layout.weights))[layout.cells]
    for replicate in range(replicates):
        rng = np.random.default_rng(seed_for(0, layout.name, population, replicate))
        base, variant, skill_b, skill_v = pair(layout, population, rng)
        b, v = outcomes(layout, base), outcomes(layout, variant)
        if population == "lost":
            v = np.where((v > 0) & (rng.random(len(v)) < 0.1), np.nan, v)
        right = ((skill_b > 0).astype(float), (skill_v > 0).astype(float))
        how = {"margin": layout.margin, "scale": layout.scale}
        skill = arm("skill", "skill", layout, right, everything, layout.clusters, ideal=layout.scale, **how)
        comparison = contrast(
            layout,
            b,
            v,
            Cells(layout.cells, layout.weights),
            layout.clusters,
            **how,
            lowest=-1.0 if layout.three else 0.0,
            leans=(base * sign, np.where(np.isnan(v), np.nan, variant) * sign),
            arms=[skill],
            ideal_at=layout.ideal_at,
            accuracy_like=True,
        )
        change = compare(comparison, seed=replicate, draws=DRAWS)
        found += settle([Row("m", "s", "plain", "greedy", layout.name, change)])
    centre = float(np.mean([change.delta for change in found]))
    held = float(np.mean([change.ci.low <= centre <= change.ci.high for change in found]))
    return centre, held, Counter(str(change.verdict) for change in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replicates", type=int, default=60)
    replicates = parser.parse_args().replicates
    print(f"{replicates} replicates, {DRAWS} draws")
    for layout in layouts():
        for population in ("N0", "N1", "N2", "moved", "lost"):
            centre, held, verdicts = simulate(layout, population, replicates)
            shares = ", ".join(f"{verdict} {count / replicates:.2f}" for verdict, count in verdicts.most_common())
            print(f"{layout.name:22} {population:6} change {centre:+8.4f}  interval holds it {held:.2f}  {shares}")


if __name__ == "__main__":
    main()
