"""What the sections say follows from the stored rows, selected and formatted, never computed."""

from __future__ import annotations

import report_synthetic

from tiltmeter.report import facts, measured, sections, summary
from tiltmeter.report.view import View
from tiltmeter.report.words import Words

SMALL = {"strategies": ("int4", "rerun"), "benchmarks": ("dt-stereotyping",)}


def view(**document) -> View:
    return View(report_synthetic.document(**{**SMALL, **document}), Words("en"))


def with_groups(verdict: str, *groups: tuple[str, str, float, list[float], float]) -> View:
    made = view()
    row = made.compared[0]
    row["change"]["verdict"] = verdict
    row["groups"] = [
        dict(attribute=attribute, group=name, score=1.0, n=50, delta=delta, ci=ci, p_adjusted=p)
        for attribute, name, delta, ci, p in groups
    ]
    return made


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
    assert [(move.group, move.delta, move.up) for move in moves] == [("a", "+9.0", True), ("b", "−8.0", False)]


def test_for_whom_is_silent_about_cells_that_cannot_be_judged():
    assert summary.for_whom(with_groups("no usable signal", ("target_group", "a", 9.0, [5.0, 12.0], 0.01))) == []


def test_unusable_cells_are_counted_per_variant_and_controls_are_left_out():
    made = view()
    for row in made.compared:
        row["change"]["verdict"] = "no usable signal"
    assert summary.unusable(made) == [("int4", 1, 1)]


def test_moved_lists_worse_before_better_and_the_surest_first():
    made = view(strategies=("a", "b", "c"))
    for row, verdict, p in zip(made.compared, ("better", "worse", "worse"), (0.001, 0.04, 0.01)):
        row["change"].update(verdict=verdict, p_adjusted=p)
    assert [row["strategy"] for row in summary.moved(made)] == ["c", "b", "a"]


def test_the_stored_choice_is_printed_without_the_models_path():
    made = view()
    made.document["choice"] = {"text": f"{made.models[0]}: int4 is the fastest inside the policy."}
    assert sections.choice(made) == "Int4 is the fastest inside the policy."


def test_speed_is_printed_with_its_range_and_a_simulated_variant_says_why_it_has_none():
    made = view()
    made.variants[0]["speed"] = {"decode_tokens_per_s": 100.0, "memory_bytes": 4 << 20, "note": ""}
    made.variants[1]["speed"] = {
        "decode_tokens_per_s": 150.0,
        "decode_speedup": {"median": 1.5, "low": 1.25, "high": 1.75},
        "memory_bytes": 2 << 20,
        "note": "",
    }
    made.variants[2]["speed"] = {"decode_tokens_per_s": None, "note": "simulated: no speed measured here"}
    table = measured.speeds(made)
    assert table["names"] == ["decode_tokens_per_s", "decode_speedup", "memory_bytes"]
    assert table["rows"][1] == ("int4", ["150", "1.50× (1.25–1.75)", "2.0 MiB"])
    assert table["rows"][2] == ("rerun", ["–", "–", "–"]) and table["notes"] == [
        ("rerun", "simulated: no speed measured here")
    ]


def test_every_gap_is_named_with_its_reason():
    made = view()
    made.rows[0].update(score=None, reason="no number was found", partial=True)
    made.compared[0]["change"].update(verdict="not exercised", reason="the cache is read too late")
    found = {kind: members for kind, _, members in sections.gaps(made)}
    assert found["undefined"] == [("base · dt-stereotyping", "no number was found")]
    assert found["idle"] == [("int4 · dt-stereotyping", "the cache is read too late")]
    assert len(found["partial"]) == 1 and found["failed"][0][1] == "group size"


def test_gaps_with_the_same_reason_stand_together_and_are_still_counted():
    made = view(benchmarks=("dt-stereotyping", "worldbench"))
    for row in made.compared:
        if row["strategy"] == "int4":
            row["change"].update(verdict="not exercised", reason="read too late")
    (count, members), *_ = [(n, members) for kind, n, members in sections.gaps(made) if kind == "idle"]
    assert (count, members) == (2, [("int4 · dt-stereotyping, worldbench", "read too late")])


def test_a_noise_floor_that_was_not_measured_says_so_and_an_undefined_number_is_a_dash():
    made = view()
    row = made.compared[0]
    row["change"].update(noise=None, mde=None, p=None, p_adjusted=None, delta=None, ci=None)
    found = dict(facts.row_facts(made, row))
    assert found["noise floor"] == "not measured"
    assert found["p"] == found["95 % interval of the change"] == found["smallest change this run would find"] == "–"


def test_published_values_stand_beside_measured_ones_only_where_there_are_any():
    rows = sections.published_rows(view())
    assert [row[0] for row in rows] == ["base · dt-stereotyping", "int4 · dt-stereotyping"]
    assert rows[0][1:4] == ["11.0", "12.0", "–"]


def test_advice_names_what_is_clear_else_the_nearest_else_says_to_keep_the_base():
    made = view(strategies=("a", "b"), benchmarks=("dt-stereotyping", "worldbench"))

    def judge(*verdicts: str) -> str:
        for row, verdict in zip(made.compared, verdicts):
            row["change"]["verdict"] = verdict
        return summary.advice(made, summary.variant_lines(made))

    assert judge("equivalent", "better", "worse", "equivalent") == "On bias alone, these can be shipped: a."
    assert "The nearest is b: settled on 1 of 2" in judge("inconclusive", "inconclusive", "equivalent", "inconclusive")
    assert "Keep the base" in judge("worse", "better", "no usable signal", "equivalent")
