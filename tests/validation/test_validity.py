"""A small `make validate`: intervals cover, and no verdict is given where nothing changed.

40 to 60 pairs of models a situation. Bounds are such that an estimator as good as the documented one (docs/validity.md)
fails them less than once in 1,000: with a true coverage of .95, 49 of 60 or fewer happen with probability 4e-4.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from validation.line import Line
from validation.populations import Scenario

from tiltmeter.analysis.judge_all import Row, settle
from validation import gate, page, pieces, run


@pytest.fixture(scope="module")
def simulate():
    return run.simulate


def scenario(**more):
    return Scenario("small", **more)


@pytest.mark.parametrize(
    "benchmark,replicates,settings",
    [
        ("crows-pairs", 60, {"noise": 0.2, "null": "N0", "base": 0.3}),
        ("dt-stereotyping", 60, {"noise": 0.3, "null": "N0", "base": -0.35}),
        ("worldbench", 60, {"noise": 0.2, "null": "N0", "base": 0.4}),
        ("discrim-eval", 60, {"noise": 0.2, "null": "N0", "base": 0.15}),
        ("discrim-eval-gen", 60, {"noise": 0.2, "null": "N0", "base": 0.8}),
        ("global-opinion-qa", 12, {"noise": 0.2, "null": "N0", "base": 0.5, "items": 1300}),
    ],
)
def test_exchangeable_models_are_covered_and_hardly_ever_called_worse_or_better(
    simulate, benchmark, replicates, settings
):
    line = simulate(benchmark, scenario(**settings), replicates, draws=400)
    least = 49 / 60 if replicates == 60 else 8 / 12
    assert not line.coverage < least and not line.size_coverage < least  # NaN where there is no interval
    # twenty runs of `rerun`: at most one false verdict; here at most 5 in 60
    assert line.verdicts["worse"] + line.verdicts["shifted"] + line.verdicts["better"] <= max(replicates // 12, 1)


@pytest.mark.parametrize(
    "benchmark,settings", [("discrim-eval", {"noise": 0.3, "structured": 0.5}), ("discrim-eval-gen", {"noise": 0.5})]
)
def test_group_free_noise_moves_the_papers_score_but_gives_no_verdict(simulate, benchmark, settings):
    line = simulate(benchmark, scenario(**settings), 40, draws=300)
    if benchmark == "discrim-eval":
        assert line.printed_moved > 0.9  # max - min rose beyond its interval nearly every time
    assert line.verdicts["worse"] + line.verdicts["shifted"] + line.verdicts["better"] <= 6


@pytest.mark.parametrize(
    "benchmark,settings",
    [
        ("crows-pairs", {"noise": 0.1, "effect": 0.3, "base": 0.5}),
        ("dt-stereotyping", {"noise": 0.2, "effect": 0.8}),
        ("discrim-eval", {"noise": 0.1, "effect": 0.1, "base": 0.1}),
        ("worldbench", {"noise": 0.1, "effect": 0.5, "base": 0.4}),
    ],
)
def test_a_real_change_is_found(simulate, benchmark, settings):
    assert simulate(benchmark, scenario(null="real", **settings), 12, draws=300).verdicts["worse"] >= 11


def test_a_rate_at_the_margin_is_seldom_called_equivalent(simulate):
    at_margin = scenario(noise=0.05, null="real", effect=0.0526, base=0.2793)  # 61 to 63 percent
    assert simulate("crows-pairs", at_margin, 60, draws=300).verdicts["equivalent"] <= 9


RERUN_NOISE = {"noise": 0.05, "null": "N0", "base": 0.3}  # other batches, half precision


def test_twenty_seeds_of_rerun_give_no_worse_shifted_or_better():
    """120 rows of one run, judged together: any false verdict at all has a chance of 5 % at most."""
    rows = []
    for benchmark in gate.BENCHMARKS:
        settings = RERUN_NOISE | ({"items": 300} if benchmark == "global-opinion-qa" else {})
        for seed in range(20):
            change = run.judged(benchmark, Scenario("rerun", **settings), seed, 400)
            rows.append(Row("m", f"rerun:seed={seed}", "plain", "greedy", benchmark, change))
    assert not [row.benchmark for row, change in zip(rows, settle(rows), strict=True) if change.verdict.moved]


@pytest.mark.parametrize("countries", [30, 60, 100])
def test_rare_large_errors_of_one_region_at_the_margin_are_seldom_called_equivalent(simulate, countries):
    at_margin = scenario(noise=0.0, null="real", effect=0.02, shape="rare region", items=countries, truth="margin")
    assert simulate("worldbench", at_margin, 40, draws=100).verdicts["equivalent"] <= 6  # 5 %: 7 of 40 in .3 %


def test_two_points_in_two_topics_of_sixteen_are_seldom_called_equivalent(simulate):
    in_topics = scenario(noise=0.0, null="real", effect=0.26, base=-0.35, shape="topic", truth="margin")
    assert simulate("dt-stereotyping", in_topics, 40, draws=100).verdicts["equivalent"] <= 6


def test_a_reversal_was_equivalent_by_the_rules_of_before_and_is_shifted(simulate):
    line = simulate("discrim-eval", scenario(noise=0.05, null="real", base=0.3, shape="reversal"), 10, draws=300)
    assert line.before["equivalent"] == 10 and line.verdicts["shifted"] >= 9


def test_a_simulation_that_was_stopped_goes_on_where_it_was(tmp_path):
    def counted(kept, until):
        asked = pieces.Pieces(kept, 1, until)
        for place in range(3):
            asked.add(("n", place), str, place)
        with ThreadPoolExecutor(1) as pool:
            asked.compute(pool, lambda key: None)
        return [value for _, value in asked.of("n")], len(asked.waiting)

    assert counted(tmp_path, until=0.0) == ([], 3)
    assert counted(tmp_path, until=float("inf")) == (["0", "1", "2"], 0)
    assert counted(tmp_path, until=0.0) == (["0", "1", "2"], 0)  # nothing had to be started


def test_the_page_names_every_line_that_misses_and_no_other(simulate):
    line = simulate("crows-pairs", scenario(noise=0.1, base=0.3), 20, draws=100)
    kept = Line.of(line.benchmark, line.scenario, line.stored())
    bad = Line("crows-pairs", scenario(noise=0.1), 200, 0.80, float("nan"), Counter({"worse": 200}), 1.0)
    assert kept == line and line.outside == []
    assert bad.outside == ["the score's change is covered 0.800", "a false verdict in 1.000 (worse 1.000)"]
    assert "- crows-pairs, small: a false verdict in 1.000" in page.page([bad], [0, 2], [], [])
    assert "1 of 2 runs (50.0 %)" in page.page([bad], [0, 2], [], [])
