"""A small `make validate`: intervals cover, and no verdict is given where nothing changed.

40 to 60 pairs of models a situation. Bounds are such that an estimator as good as the documented one (docs/validity.md)
fails them less than once in 1,000: with a true coverage of .95, 49 of 60 or fewer happen with probability 4e-4.
"""

import pytest


@pytest.fixture(scope="module")
def simulate():
    import sys
    from pathlib import Path

    root = str(Path(__file__).resolve().parents[2])
    sys.path.insert(0, root)
    try:
        from validation.run import simulate
    finally:
        sys.path.remove(root)
    return simulate


def scenario(**more):
    from validation.populations import Scenario

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
