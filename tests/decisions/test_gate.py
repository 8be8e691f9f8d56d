"""Policy, gate, choice: what is allowed, who breaks it, and that nothing unjudged ever passes."""

import math
from xml.etree import ElementTree

import pytest

from tiltmeter.decisions import choose as choosing
from tiltmeter.decisions.gate import evaluate, github_annotations, junit_xml
from tiltmeter.decisions.policy import Policy, read_policy
from tiltmeter.errors import UserError

NAMES = ["crows-pairs", "discrim-eval"]


def row(verdict="equivalent", strategy="int8", benchmark="crows-pairs", **more):
    change = {
        "verdict": verdict,
        "reason": "because",
        "delta": 1.0,
        "distance_delta": 1.0,
        "margin": 2.0,
        "rests_on": "score",
        "flips": {"n": 50, "of": 1000, "toward_bias": 30, "away_from_bias": 20},
    }
    return {
        "model": "m",
        "strategy": strategy,
        "benchmark": benchmark,
        "format": "plain",
        "decoding": "greedy",
        "score": 60.0,
        "n_items": 1000,
        "n_scored": 900,
        "partial": False,
        "complete": True,
        "reason": None,
        "groups": [{"attribute": "bias_type", "group": "age", "delta": 6.0, "ci": [2.0, 10.0]}],
        "change": change if strategy != "none" else None,
    } | more


def code(rows, policy=None, **more):
    return evaluate(rows, read_policy(policy or {}, benchmarks=NAMES), **more).exit_code


def test_by_default_only_worse_breaks_the_gate():
    assert code([row("worse")]) == 1
    assert [code([row(v)]) for v in ("equivalent", "better", "inconclusive")] == [0, 0, 0]


def test_no_usable_signal_never_passes_and_a_broken_limit_beats_it():
    assert code([row("no usable signal")]) == 3
    assert code([row("no usable signal")], {"default": {"no_usable_signal": "fail"}}) == 1
    assert code([row("no usable signal"), row("worse", strategy="int4")]) == 1


def test_requiring_equivalence_leaves_inconclusive_unjudged_unless_told():
    assert code([row("inconclusive")], {"default": {"require": "equivalent"}}) == 3
    assert code([row("inconclusive")], {"default": {"require": "equivalent", "inconclusive": "fail"}}) == 1
    assert code([row("better")], {"default": {"require": "equivalent"}}) == 0
    assert code([row("better")], {"default": {"require": "equivalent", "better": "fail"}}) == 1


def test_not_exercised_passes_unless_the_policy_names_the_cell():
    rows = [row("not exercised", strategy="kv4:read=transformers")]
    assert code(rows) == 0
    assert code(rows, {"cells": [{"strategy": "kv4*", "benchmark": "crows-pairs"}]}) == 3


@pytest.mark.parametrize("case", [{"partial": True}, {"complete": False}, {"change": None}])
def test_partial_unfinished_or_unpaired_rows_cannot_be_judged(case):
    assert code([row(**case)]) == 3


def test_partial_rows_are_judged_where_the_policy_allows_it():
    assert code([row(partial=True)], {"default": {"allow_partial": True}}) == 0


def test_a_run_without_variants_or_without_what_the_policy_names_never_passes():
    assert code([]) == 3
    assert code([row(strategy="none")]) == 3
    assert code([row(strategy="rerun")]) == 3  # a control is measured, not judged
    assert code([row()], {"benchmarks": {"discrim-eval": {}}}) == 3
    assert code([row()], {"cells": [{"strategy": "awq", "benchmark": "*"}]}) == 3
    assert code([row()], failures=["m · awq · crows-pairs"]) == 3


def test_the_more_particular_rule_wins():
    policy = {
        "default": {"max_flips": 0.01},
        "benchmarks": {"crows-pairs": {"max_flips": 0.2}},
        "cells": [{"strategy": "int4", "benchmark": "crows-pairs", "max_flips": 0.02}],
    }
    assert [
        check.cell.split(" · ")[1]
        for check in evaluate([row(), row(strategy="int4")], read_policy(policy)).checks
        if check.status == "fail"
    ] == ["int4"]
    assert code([row(benchmark="discrim-eval")], {"default": {"max_flips": 0.01}}) == 1


def test_limits_on_sizes():
    # the row: distance +1, 5 % flips, 3 % toward bias, 10 % unscored, one group +6 [2, 10]
    for rule, holds, breaks in (
        ("max_rise", 1, 0.9),
        ("max_flips", 0.05, 0.04),
        ("max_toward_bias", 0.03, 0.02),
        ("max_unscored", 0.1, 0.09),
        ("max_group_change", 6, 5),
    ):
        assert (code([row()], {"default": {rule: holds}}), code([row()], {"default": {rule: breaks}})) == (0, 1), rule
    assert code([row()], {"default": {"groups": {"bias_type=age": 5}}}) == 1
    assert code([row()], {"default": {"groups": {"bias_type=tall": 5}}}) == 3  # no such group: not judged


def test_a_limit_on_a_number_the_row_lacks_cannot_be_judged():
    bare = row()
    bare["change"] = bare["change"] | {"flips": None, "distance_delta": None}
    assert code([bare], {"default": {"max_flips": 0.5}}) == 3
    assert code([bare], {"default": {"max_rise": 5}}) == 3


@pytest.mark.parametrize(
    "policy,words",
    [
        ({"defaults": {}}, "'default'"),
        ({"default": {"max_flip": 0.1}}, "'max_flips'"),
        ({"benchmarks": {"crows": {}}}, "crows"),
        ({"default": {"require": "good"}}, "equivalent"),
        ({"default": {"max_flips": 20}}, "share"),
        ({"default": {"max_unscored": -0.1}}, "share"),
        ({"default": {"max_rise": "much"}}, "number"),
        ({"default": {"groups": {"age": 1}}}, "attribute=group"),
        ({"cells": [{"strategy": "int4"}]}, "benchmark"),
        ({"cells": [{"strategy": "x", "benchmark": "bold"}]}, "bold"),
        ([], "key: value"),
        ({"ignore": "rerun"}, "list"),
        ({"default": {"allow_partial": 1}}, "true or false"),
        ({"margins": {"crows-pairs": 0}}, "above 0"),
        ({"margins": {"crows": 1}}, "crows-pairs"),
        ({"default": {"max_flips": True}}, "share"),
        ({"default": 3}, "key: value"),
    ],
)
def test_a_mistake_in_the_policy_is_an_error_that_says_what_to_write(policy, words):
    with pytest.raises(UserError) as error:
        read_policy(policy, benchmarks=NAMES)
    assert words in str(error.value)


def test_junit_and_annotations_escape_what_models_are_called():
    gate = evaluate([row("worse", strategy="int8", model='a<b>&"\x07\n::error::x')], Policy())
    suite = ElementTree.fromstring(junit_xml(gate))
    assert suite.attrib["failures"] == "1" and suite[0][0].tag == "failure"
    lines = github_annotations(gate).splitlines()
    assert len(lines) == 1 and lines[0].startswith("::error title=a<b>&") and "%0A" in lines[0]


def variant(strategy, speed=None, size=None):
    return {"model": "m", "strategy": strategy, "speed": {"decode_tokens_per_s": speed, "memory_bytes": size}}


def test_the_fastest_inside_the_policy_is_chosen_and_the_pareto_line_marked():
    rows = [
        row(strategy="none"),
        row(strategy="int8"),
        row("worse", strategy="int4", change=row("worse")["change"] | {"distance_delta": 2.0}),
        row(strategy="fp8", change=row()["change"] | {"distance_delta": 3.0}),
    ]
    variants = [variant("none", 10, 100), variant("int8", 20, 60), variant("int4", 50, 30), variant("fp8", 15, 50)]
    policy = read_policy({"cells": [{"strategy": "int4", "benchmark": "*"}]})  # names another variant: no matter
    choice = choosing.choose(rows, variants, policy)
    assert [c.strategy for c in choice.chosen] == ["int8"]
    assert {c.strategy for c in choice.candidates if c.pareto} == {"none", "int8", "int4"}  # fp8: slower, moved more
    assert "int8 is the fastest inside the policy (2 times the base's decoding speed)" in choice.text
    assert [c.strategy for c in choosing.choose(rows, variants, Policy(), by="size").chosen] == ["fp8"]


def test_without_a_measured_speed_nothing_is_called_the_fastest():
    choice = choosing.choose([row(strategy="none"), row()], [variant("none"), variant("int8")], Policy())
    assert choice.chosen == () and "no speed was measured here" in choice.text
    assert all(math.isnan(c.speed) for c in choice.candidates)
