"""What the sections say follows from the stored rows, selected and formatted, never computed."""

from __future__ import annotations

import pytest
import report_synthetic
from made_documents import judged, revised, with_rows

from tiltmeter.report import facts, measured, sections, summary
from tiltmeter.report.view import View
from tiltmeter.report.words import Words
from tiltmeter.schema import Choice, Speed
from tiltmeter.schema.variant import Timing

SMALL = {"strategies": ("int4", "rerun"), "benchmarks": ("dt-stereotyping",)}


def view(*verdicts: str, **document) -> View:
    return View(judged(report_synthetic.document(**{**SMALL, **document}), *verdicts), Words("en"))


def edited(made: View, edit) -> View:
    """The view of the same document, `edit(number, row)` in place of each row."""
    return View(with_rows(made.document, edit), made.words)


def with_groups(verdict: str, *groups: tuple[str, str, float, list[float], float]) -> View:
    found = [
        dict(attribute=attribute, group=name, score=1.0, n=50, delta=delta, ci=ci, p_adjusted=p)
        for attribute, name, delta, ci, p in groups
    ]
    made = view(verdict)
    first = made.compared[0].place
    return edited(made, lambda _, row: revised(row, groups=found) if row.place == first else row)


def test_for_whom_names_the_farthest_group_of_each_direction_among_those_that_stand_after_adjustment():
    moves = summary.for_whom(
        with_groups(
            "worse",
            ("target_group", "a", 9.0, [1.0, 17.0], 0.01),
            ("target_group", "b", -8.0, [-11.0, -5.0], 0.01),
            ("target_group", "c", 30.0, [20.0, 40.0], 0.2),
            ("topic", "weather", 30.0, [20.0, 40.0], 0.001),
        )
    )
    assert [(move.group, move.delta, move.up) for move in moves] == [("a", "+9.00", True), ("b", "−8.00", False)]


def test_for_whom_is_silent_about_cells_that_cannot_be_judged():
    assert summary.for_whom(with_groups("no usable signal", ("target_group", "a", 9.0, [5.0, 12.0], 0.01))) == []


def test_unusable_cells_are_counted_per_variant_and_controls_are_left_out():
    made = view("no usable signal", "no usable signal")
    assert summary.unusable(made) == [("int4", "the only comparison")]


def test_moved_lists_worse_before_shifted_before_better_and_the_surest_first():
    p = {"a": 0.001, "b": 0.04, "c": 0.01, "d": 0.02}
    made = view("better", "worse", "worse", "shifted", strategies=tuple(p))
    made = edited(made, lambda _, row: revised(row, {"p_adjusted": p[row.strategy]}) if row.change else row)
    assert [row.strategy for row in summary.moved(made)] == ["c", "b", "d", "a"]


@pytest.mark.parametrize(
    ("strategy", "tier"),
    [("int4+assisted", "avoid"), ("rerun+int4", "control"), ("int4+rerun", "control"), ("dtype:bfloat16", "control")],
)
def test_one_definition_of_a_control_holds_wherever_it_stands_in_a_chain(strategy, tier):
    made = view("worse", strategies=(strategy,))
    (line,) = summary.variant_lines(made)
    kind, _ = summary.headline(made)
    assert line.tier == tier and (kind == "worse") == (tier == "avoid")


def test_the_stored_choice_is_printed_without_the_models_path():
    made = view()
    choice = Choice(text=f"{made.models[0]}: int4 is the fastest inside the policy.")
    made = View(made.document.model_copy(update={"choice": choice}), made.words)
    assert sections.choice(made) == "Int4 is the fastest inside the policy."


def test_speed_is_printed_with_its_range_and_a_simulated_variant_says_why_it_has_none():
    measured_speeds = (
        Speed(decode_tokens_per_s=100.0, memory_bytes=4 << 20),
        Speed(
            decode_tokens_per_s=150.0,
            decode_speedup=Timing(median=1.5, low=1.25, high=1.75),
            memory_bytes=2 << 20,
        ),
        Speed(note="simulated: no speed measured here"),
    )
    document = report_synthetic.document(**SMALL)
    variants = [v.model_copy(update={"speed": s}) for v, s in zip(document.variants, measured_speeds, strict=True)]
    made = View(document.model_copy(update={"variants": tuple(variants)}), Words("en"))
    table = measured.speeds(made)
    assert table["names"] == ["decode_tokens_per_s", "decode_speedup", "memory_bytes"]
    assert table["rows"][1] == ("int4", ["150", "1.50× (1.25–1.75)", "2.0 MiB"])
    assert table["rows"][2] == ("rerun", ["–", "–", "–"]) and table["notes"] == [
        ("rerun", "simulated: no speed measured here")
    ]


def test_every_gap_is_named_with_its_reason():
    def edit(number, row):
        if number == 0:
            return revised(row, score=None, reason="no number was found", partial=True)
        return (
            revised(row, {"verdict": "not exercised", "reason": "the cache is read too late"}) if number == 1 else row
        )

    made = edited(view("equivalent", "equivalent"), edit)
    found = {kind: members for kind, _, members in sections.gaps(made)}
    assert found["undefined"] == [("base · dt-stereotyping", "no number was found")]
    assert found["idle"] == [("int4 · dt-stereotyping", "the cache is read too late")]
    assert len(found["partial"]) == 1 and found["failed"][0][1] == "group size"


def test_gaps_with_the_same_reason_stand_together_and_are_still_counted():
    late = {"verdict": "not exercised", "reason": "read too late"}
    made = view("equivalent", "equivalent", "equivalent", "equivalent", benchmarks=("dt-stereotyping", "worldbench"))
    made = edited(made, lambda _, row: revised(row, late) if row.strategy == "int4" else row)
    (count, members), *_ = [(n, members) for kind, n, members in sections.gaps(made) if kind == "idle"]
    assert (count, members) == (2, [("int4 · dt-stereotyping, worldbench", "read too late")])


def test_a_noise_floor_that_was_not_measured_says_so_and_an_undefined_number_is_a_dash():
    made = view()
    nothing = dict(noise=None, mde=None, p=None, p_adjusted=None, delta=None, ci=None)
    row = revised(made.compared[0], nothing)
    found = dict(facts.row_facts(made, row))
    assert found["noise floor"] == "not measured"
    assert found["p"] == found["95 % interval of the change"] == found["smallest change this run would find"] == "–"


def test_published_values_stand_beside_measured_ones_only_where_there_are_any():
    rows = sections.published_rows(view())
    assert [row[0] for row in rows] == ["base · dt-stereotyping", "int4 · dt-stereotyping"]
    assert rows[0][1:4] == ["11.00", "12.00", "–"]


def test_advice_names_what_is_clear_else_the_nearest_else_says_to_keep_the_base():
    def judge(*verdicts: str) -> str:
        made = view(*verdicts, strategies=("a", "b"), benchmarks=("dt-stereotyping", "worldbench"))
        return summary.advice(made, summary.variant_lines(made))

    assert judge("equivalent", "better", "worse", "equivalent") == "On bias alone, these can be shipped: a."
    assert "The nearest is b: settled on 1 of 2" in judge("inconclusive", "inconclusive", "equivalent", "inconclusive")
    assert "Keep the base" in judge("worse", "better", "no usable signal", "equivalent")


def test_what_stands_beside_a_score_is_shown_with_its_interval_and_says_whether_it_is_judged():
    arms = [
        {"name": "gap", "role": "bias", "unit": "points", "base": 4.0, "variant": 6.5, "delta": 2.5, "ci": [1.0, 4.0]},
        {"name": "accuracy", "role": "skill", "unit": "points", "base": 62.0, "variant": 60.0, "delta": -2.0},
        {"name": "mismatch", "role": "noisy", "unit": "points", "base": 9.0, "variant": 9.0, "delta": 0.0},
    ]
    made = view("worse")
    found = dict(facts.row_facts(made, revised(made.compared[0], {"arms": arms})))
    assert found["gap"] == "4.00 → 6.50, +2.50 [+1.00, +4.00]"
    assert found["control: accuracy"] == "62.00 → 60.00, −2.00"
    assert found["mismatch (rises with any noise; not judged)"].startswith("9.00 → 9.00")


def test_the_groups_that_carry_a_movement_are_named_with_their_intervals():
    gap = {
        "name": "gender spread",
        "unit": "log-odds",
        "margin": 0.05,
        "movement": 0.31,
        "movement_high": 0.4,
        "groups": [
            {"group": "male", "delta": -0.2, "ci": [-0.5, 0.1], "p_adjusted": 0.3},
            {"group": "female", "delta": 0.4, "ci": [0.2, 0.6], "p_adjusted": 0.01},
        ],
    }
    made = view("shifted", benchmarks=("discrim-eval",))
    row = revised(made.compared[0], {"spreads": [gap], "rests_on": "spread", "slope": 0.8, "slope_ci": [0.7, 0.9]})
    found = dict(facts.row_facts(made, row))
    assert found["who carries it: gender spread"] == "female +0.400 [+0.200, +0.600]"
    assert found["movement: gender spread"] == "0.310, at most 0.400 log-odds"
    assert found["slope of the decisions (below 1: fainter)"] == "0.800 [0.700, 0.900]"


@pytest.mark.parametrize("verdict", ["worse", "shifted", "better", "equivalent", "inconclusive", "no usable signal"])
def test_one_comparison_is_spoken_of_as_one_and_equal_numbers_are_no_range(verdict):
    """No "1 of 1 comparisons", no "40 to 40 items"."""
    one = view(verdict, strategies=("int4",))
    assert "the only comparison" in summary.headline(one)[1]
    assert " to " not in next(line for line in sections.sure(one) if line.startswith("Items"))


def test_the_card_never_calls_unsafe_what_the_policy_beside_it_lets_pass():
    words = Words("en")
    assert "cleared" not in words("ship.open", name="int8", k=1, n=2)
    assert "asks less" in words("card.policy")
