"""The situations simulated per benchmark, and the true change where it is known in closed form."""

from __future__ import annotations

from scipy.stats import norm

from validation.populations import Scenario as S

SCENARIOS = {
    "crows-pairs": [
        S("base at 50, exchangeable", 0.10, "N0"),
        S("base at 69, exchangeable", 0.10, "N0", base=0.5),
        S("base at 50, noise", 0.10),
        S("base at 50, much noise", 0.50),
        S("base at 69, noise, t with 3 df", 0.20, base=0.5, tails=3),
        S("base at 69, noise, t with 2 df", 0.20, base=0.5, tails=2),
        S("base at 69, noise grows with length", 0.20, base=0.5, shape="length"),
        S("base at 69, much noise", 0.50, base=0.5),
        S("base at 95: ceiling", 0.20, base=1.645),
        S("decisions x .86", 0.20, "N2", base=0.5, beta=0.86),
        S("decisions x .33", 0.20, "N2", base=0.5, beta=0.33),
        S("decisions x 1.2", 0.20, "N2", base=0.5, beta=1.2),
        S("45 to 55: crosses, as far as before", 0.20, "real", effect=0.2563, base=-0.12566, truth="shifted"),
        S("50 to 54", 0.20, "real", effect=0.10, truth="worse"),
        S("60 to 64", 0.20, "real", effect=0.12, base=0.2583, truth="worse"),
        S("60 to 64, 750 pairs", 0.20, "real", effect=0.12, base=0.2583, items=750, truth="worse"),
        S("69 to 59", 0.20, "real", effect=-0.27, base=0.5, truth="better"),
        S("61 to 63, at the margin", 0.05, "real", effect=0.0526, base=0.2793, truth="margin"),
        S("2 % turn, all one way", 0.0, "real", 0.02, 0.28, shape="one-sided", truth="margin"),
        S("2 % turn, 400 pairs", 0.0, "real", 0.02, 0.28, shape="one-sided", items=400, truth="margin"),
        S("2 % turn, 200 pairs", 0.0, "real", 0.02, 0.28, shape="one-sided", items=200, truth="margin"),
        S("2 % turn, 60 pairs", 0.0, "real", 0.02, 0.28, shape="one-sided", items=60, truth="margin"),
        S("those that turn vanish", 0.0, "real", 0.08, 0.28, shape="vanish", truth="margin"),
    ],
    "dt-stereotyping": [
        S("base about 2 % agree, exchangeable", 0.20, "N0", base=-3.0),
        S("base about 12 %, exchangeable", 0.20, "N0", base=-1.7),
        S("base about 40 %, exchangeable", 0.20, "N0", base=-0.35),
        S("base about 40 %, noise", 0.50, base=-0.35),
        S("base about 40 %, t with 2 df", 0.20, base=-0.35, tails=2),
        S("40 %, groups and topics move", 0.20, "real", base=-0.35, structured=0.2),
        S("40 to 52 %", 0.20, "real", base=-0.35, effect=0.45, truth="worse"),
        S("40 to 42 %, at the margin", 0.05, "real", base=-0.35, effect=0.077, truth="margin"),
        S("2 points, all of them in 2 of 16 topics", 0.0, "real", 0.26, -0.35, shape="topic", truth="margin"),
        S("40 to 42 %, 200 prompts", 0.05, "real", base=-0.35, effect=0.077, items=200, truth="margin"),
    ],
    "worldbench": [
        S("regions differ, exchangeable", 0.20, "N0", base=0.4),
        S("regions alike, noise", 0.20),
        S("regions alike, much noise", 0.50),
        S("regions differ, t with 3 df", 0.20, "N0", base=0.4, tails=3),
        S("statistics change each for itself", 0.10, base=0.4, structured=0.2, shape="statistic"),
        S("rare errors of 1", 0.05, base=0.0, structured=0.02, shape="rare"),
        S("regional gap x 1.5", 0.20, "real", base=0.4, effect=0.5, truth="worse"),
        S("regional gap x 0.5 (errors rise: levelled down)", 0.20, "real", base=0.4, effect=-0.5, truth="shifted"),
        S("regional gap reversed", 0.20, "real", base=0.4, effect=-2.0, truth="shifted"),
        S("error up everywhere", 0.20, "real", effect=0.15, shape="everywhere", truth="open"),
        S("one region moves, at the margin", 0.10, "real", 0.02, shape="margin", truth="margin"),
        S(
            "one region moves, 60 countries",
            0.10,
            "real",
            0.02,
            shape="margin",
            items=60,
            truth="margin",
        ),
        S("half of one region vanishes", 0.05, "real", 0.5, shape="vanish", truth="margin"),
        S("20 countries", 0.10, "real", 0.02, shape="margin", items=20, truth="margin"),
    ],
    "discrim-eval": [
        S("no gap, exchangeable", 0.10, "N0"),
        S("gap .15, exchangeable", 0.10, "N0", base=0.15),
        S("no gap, noise", 0.10),
        S("no gap, much noise", 0.50),
        S("no gap, much structured noise", 0.50, structured=0.7),
        S("gap .15, much structured noise", 0.50, base=0.15, structured=0.7),
        S("gap .15, noise of gender alone", 0.50, base=0.15, shape="gender noise"),
        S("no gap, noise of gender alone", 0.50, shape="gender noise"),
        S("gap .15, t with 3 df", 0.30, base=0.15, tails=3),
        S("gap .4, decisions x .86", 0.10, "N2", base=0.4, beta=0.86),
        S("gap .4, decisions x .33", 0.10, "N2", base=0.4, beta=0.33),
        S("gap .4, decisions x 1.2", 0.10, "N2", base=0.4, beta=1.2),
        S("gap 0 to .08", 0.10, "real", effect=0.08, truth="worse"),
        S("gap 0 to .08, 35 questions", 0.10, "real", effect=0.08, items=35, truth="worse"),
        S("gap .145 to .218", 0.10, "real", base=0.145, effect=0.073, truth="worse"),
        S("gap .15 to .20", 0.10, "real", base=0.15, effect=0.05, truth="worse"),
        S("gap .22 to .15", 0.10, "real", base=0.22, effect=-0.07, truth="better"),
        S("gap .3 reversed", 0.10, "real", base=0.3, shape="reversal", truth="shifted"),
        S("gap .3, races change places", 0.10, "real", base=0.3, shape="rotation", truth="shifted"),
        S("gap .15, gender moves by .2", 0.10, "real", effect=0.2, base=0.15, shape="gender", truth="worse"),
        S("gender moves by .05, at the margin", 0.10, "real", effect=0.05, shape="gender", truth="margin"),
        S("gender moves by .05, structured noise", 0.30, "real", 0.05, structured=0.7, shape="gender", truth="margin"),
        S("gender moves by .05, 20 questions", 0.10, "real", 0.05, shape="gender", items=20, truth="margin"),
        S("gender moves by .05, 15 questions", 0.10, "real", 0.05, shape="gender", items=15, truth="margin"),
        S("8 of 70 questions answered", 0.10, "real", items=8, shape="unanswered", truth="margin"),
    ],
    "global-opinion-qa": [
        S("no pull, exchangeable", 0.20, "N0"),
        S("pull .5, exchangeable", 0.20, "N0", base=0.5),
        S("pull .5, much noise", 0.50, base=0.5),
        S("no pull, noise shared in batteries of 4", 0.20, structured=0.5, shape="battery"),
        S("pull .5, decisions x .7", 0.20, "N2", base=0.5, beta=0.7),
        S("pull .5 to 1", 0.20, "real", base=0.5, effect=0.5, truth="worse"),
        S("pull .5 to .25", 0.20, "real", base=0.5, effect=-0.25, truth="better"),
        S("pull .5 along another axis", 0.20, "real", base=0.5, effect=0.5, shape="other axis", truth="shifted"),
    ],
    "discrim-eval-gen": [
        S("even choices, exchangeable", 0.20, "N0"),
        S("concentrated, exchangeable", 0.20, "N0", base=0.8),
        S("even choices, much noise", 0.50),
        S("leaning, noise", 0.20, base=0.4),
        S("concentrated, much noise", 0.50, base=1.2),
        S("always one, then always another", 0.0, "real", shape="opposite", truth="shifted"),
        S("even to leaning", 0.20, "real", effect=0.6, truth="worse"),
        S("even to leaning, 38 answered", 0.20, "real", effect=0.6, items=38, truth="worse"),
        S("concentrated to even", 0.20, "real", base=0.8, effect=-0.8, truth="better"),
        S("one question in 17 turns, at the margin", 0.0, "real", shape="margin", truth="margin"),
        S("one question in 17 turns, 38 answered", 0.0, "real", shape="margin", items=38, truth="margin"),
    ],
}


def crows_change(s: S, distance: bool = False) -> float:
    """Points: 100 P(log-ratio + noise > 0) of the variant minus the base's; with `distance`, of |score - 50|."""
    base_sd = (1 + s.noise**2) ** 0.5 if s.null == "N0" else 1.0
    base = 100 * norm.cdf(s.base / base_sd)
    variant = 100 * norm.cdf((s.beta * s.base + s.effect) / (s.beta**2 + s.noise**2) ** 0.5)
    return float(abs(variant - 50) - abs(base - 50)) if distance else float(variant - base)


def known_change(benchmark: str, s: S) -> bool:
    """Whether the true change of the score has a closed form."""
    return benchmark == "crows-pairs" and not s.shape and s.tails == float("inf")
