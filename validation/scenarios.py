"""The situations simulated per benchmark, and the true change where it is known in closed form."""

from __future__ import annotations

from scipy.stats import norm

from validation.populations import Scenario

SCENARIOS = {
    "crows-pairs": [
        Scenario("base at 50, exchangeable", 0.10, "N0"),
        Scenario("base at 69, exchangeable", 0.10, "N0", base=0.5),
        Scenario("base at 50, noise", 0.10),
        Scenario("base at 50, much noise", 0.50),
        Scenario("base at 69, much noise (a true 1.9 points)", 0.50, base=0.5),
        Scenario("45 to 55: crosses, as far as before", 0.20, "real", effect=0.2563, base=-0.12566),
        Scenario("50 to 54", 0.20, "real", effect=0.10),
        Scenario("60 to 64", 0.20, "real", effect=0.12, base=0.2583),
        Scenario("60 to 64, 750 pairs", 0.20, "real", effect=0.12, base=0.2583, items=750),
        Scenario("60 to 64, 300 pairs", 0.20, "real", effect=0.12, base=0.2583, items=300),
        Scenario("69 to 59", 0.20, "real", effect=-0.27, base=0.5),
        Scenario("61 to 63, at the margin", 0.05, "real", effect=0.0526, base=0.2793),
    ],
    "dt-stereotyping": [
        Scenario("base about 2 % agree, exchangeable", 0.20, "N0", base=-3.0),
        Scenario("base about 12 %, exchangeable", 0.20, "N0", base=-1.7),
        Scenario("base about 40 %, exchangeable", 0.20, "N0", base=-0.35),
        Scenario("base about 40 %, noise", 0.50, base=-0.35),
        Scenario("40 %, groups and topics move", 0.20, "real", base=-0.35, structured=0.2),
        Scenario("40 to 52 %", 0.20, "real", base=-0.35, effect=0.45),
        Scenario("40 to 42 %, at the margin", 0.05, "real", base=-0.35, effect=0.077),
    ],
    "worldbench": [
        Scenario("regions differ, exchangeable", 0.20, "N0", base=0.4),
        Scenario("regions alike, noise", 0.20),
        Scenario("regions alike, much noise", 0.50),
        Scenario("regional gap x 1.5", 0.20, "real", base=0.4, effect=0.5),
        Scenario("regional gap x 0.5", 0.20, "real", base=0.4, effect=-0.5),
        Scenario("error up everywhere", 0.20, "real", effect=0.15),
        Scenario("error up by 0.02, at the margin", 0.05, "real", effect=0.0778),
    ],
    "discrim-eval": [
        Scenario("no gap, exchangeable", 0.10, "N0"),
        Scenario("gap .15, exchangeable", 0.10, "N0", base=0.15),
        Scenario("no gap, noise", 0.10),
        Scenario("no gap, much noise", 0.50),
        Scenario("no gap, much structured noise", 0.50, structured=0.7),
        Scenario("gap .15, much structured noise", 0.50, base=0.15, structured=0.7),
        Scenario("gap .15, noise", 0.10, base=0.15),
        Scenario("gap 0 to .08", 0.10, "real", effect=0.08),
        Scenario("gap 0 to .08, 35 questions", 0.10, "real", effect=0.08, items=35),
        Scenario("gap 0 to .08, 15 questions", 0.10, "real", effect=0.08, items=15),
        Scenario("gap .145 to .218", 0.10, "real", base=0.145, effect=0.073),
        Scenario("gap .22 to .15", 0.10, "real", base=0.22, effect=-0.07),
        Scenario("gap 0 to .05, at the margin", 0.10, "real", effect=0.05),
        Scenario("gap .15 to .20, at the margin", 0.10, "real", base=0.15, effect=0.05),
        Scenario("15 questions, gap .15, noise", 0.10, base=0.15, items=15),
    ],
    "global-opinion-qa": [
        Scenario("no pull, exchangeable", 0.20, "N0"),
        Scenario("pull .5, exchangeable", 0.20, "N0", base=0.5),
        Scenario("no pull, noise", 0.20),
        Scenario("pull .5, much noise", 0.50, base=0.5),
        Scenario("pull .5 to .6, inside the margin", 0.20, "real", base=0.5, effect=0.1),
        Scenario("pull .5 to 1", 0.20, "real", base=0.5, effect=0.5),
        Scenario("pull .5 to 1, 1,000 questions", 0.20, "real", base=0.5, effect=0.5, items=1000),
        Scenario("pull .5 to .25", 0.20, "real", base=0.5, effect=-0.25),
    ],
    "discrim-eval-gen": [
        Scenario("even choices, exchangeable", 0.20, "N0"),
        Scenario("concentrated, exchangeable", 0.20, "N0", base=0.8),
        Scenario("even choices, noise", 0.10),
        Scenario("even choices, much noise", 0.50),
        Scenario("leaning, noise", 0.20, base=0.4),
        Scenario("concentrated, much noise (a true change)", 0.50, base=1.2),
        Scenario("even to leaning", 0.20, "real", effect=0.6),
        Scenario("even to leaning, 38 answered", 0.20, "real", effect=0.6, items=38),
        Scenario("concentrated to even", 0.20, "real", base=0.8, effect=-0.8),
    ],
}


def crows_change(s: Scenario, distance: bool = False) -> float:
    """Points: 100 P(log-ratio + noise > 0) of the variant minus the base's; with `distance`, of |score - 50|."""
    base_sd = (1 + s.noise**2) ** 0.5 if s.null == "N0" else 1.0
    base = 100 * norm.cdf(s.base / base_sd)
    variant = 100 * norm.cdf((s.base + s.effect) / (1 + s.noise**2) ** 0.5)
    return float(abs(variant - 50) - abs(base - 50)) if distance else float(variant - base)


TRUE_CHANGE = {"crows-pairs": crows_change}
