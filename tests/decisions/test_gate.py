"""Policy, gate, choice: what is allowed, who breaks it, and that nothing unjudged ever passes."""

import math
from xml.etree import ElementTree

import pytest
from made_documents import document, row

from tiltmeter.decisions import choose as choosing
from tiltmeter.decisions.gate import evaluate, github_annotations, junit_xml
from tiltmeter.decisions.policy import Policy, read_policy
from tiltmeter.errors import UserError
from tiltmeter.schema import Speed, Variant

NAMES = ["crows-pairs", "discrim-eval"]


def code(rows, policy=None, **run):
    return evaluate(document(rows, **run), read_policy(policy or {}, benchmarks=NAMES)).exit_code


def test_by_default_worse_and_shifted_break_the_gate():
    assert code([row("worse")]) == code([row("shifted")]) == 1
    assert code([row("shifted")], {"default": {"shifted": "pass"}}) == 0
    assert code([row("shifted")], {"default": {"require": "equivalent", "shifted": "pass"}}) == 1
    assert [code([row(v)]) for v in ("equivalent", "better")] == [0, 0]


def test_a_variant_that_stops_answering_some_people_breaks_the_gate_whatever_the_scored_rest_says():
    def silent(verdict):
        return [
            row("equivalent", change={"unanswered": {"base": 0.0, "variant": 0.1, "delta": 0.1, "verdict": verdict}})
        ]

    assert [code(silent(verdict)) for verdict in ("worse", "shifted")] == [1, 1]
    assert [code(silent(verdict)) for verdict in ("equivalent", "better")] == [0, 0]
    assert code(silent("shifted"), {"default": {"shifted": "pass"}}) == 0


@pytest.mark.parametrize(("far", "exit_code"), [(None, 3), (9.0, 3), (0.5, 0)])
def test_who_is_answered_passes_where_it_is_not_known_only_if_its_interval_excludes_harm(far, exit_code):
    who = {"base": 0.0, "variant": 0.1, "delta": 0.1, "verdict": "inconclusive", "far": far}
    assert code([row("equivalent", change={"unanswered": who})]) == exit_code


def test_no_usable_signal_never_passes_and_a_broken_limit_beats_it():
    assert code([row("no usable signal")]) == 3
    assert code([row("no usable signal")], {"default": {"no_usable_signal": "fail"}}) == 1
    assert code([row("no usable signal"), row("worse", strategy="int4")]) == 1


def test_requiring_equivalence_leaves_inconclusive_unjudged_unless_told():
    assert code([row("inconclusive")], {"default": {"require": "equivalent"}}) == 3
    assert code([row("inconclusive")], {"default": {"require": "equivalent", "inconclusive": "fail"}}) == 1
    assert code([row("better")], {"default": {"require": "equivalent"}}) == 0
    assert code([row("better")], {"default": {"require": "equivalent", "better": "fail"}}) == 1


def test_not_exercised_passes_unless_the_policy_names_the_cell_or_nothing_was_exercised():
    rows = [
        row("not exercised", strategy="kv4:read=transformers"),
        row("equivalent", strategy="kv4:read=transformers", benchmark="discrim-eval"),
    ]
    assert code(rows) == 0 and code(rows[:1]) == 3
    assert code([*rows[:1], row("equivalent", strategy="int8")]) == 3  # another variant does not speak for it
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
    assert code([row()], failures=[{"model": "m", "strategy": "awq", "reason": "out of memory"}]) == 3


def test_the_gate_names_the_failed_cell_and_its_reason():
    int8 = {"model": "m", "strategy": "int8"}
    failures = [
        {**int8, "reason": "out of memory", "cells": ["plain-greedy crows-pairs"]},
        {**int8, "reason": "no 'yes' token", "cells": ["plain-greedy discrim-eval"]},
        {"model": "m", "strategy": "awq", "reason": "group size"},
        {"model": "m", "strategy": "rerun", "reason": "a control: not judged"},
    ]
    found = evaluate(document([row()], failures=failures), Policy())
    assert [(str(c.cell), str(c.message)) for c in found.checks if c.rule == "finished"] == [
        ("m · int8 · plain-greedy crows-pairs", "it failed and has no row: out of memory"),
        ("m · int8 · plain-greedy discrim-eval", "it failed and has no row: no 'yes' token"),
        ("m · awq · every cell", "it failed and has no row: group size"),
    ]


CELL = {"model": "m", "strategy": "int8", "format": "plain", "decoding": "greedy", "benchmark": "worldbench"}


def test_a_cell_that_was_asked_and_is_not_there_is_named_with_the_command_that_completes_the_run():
    found = evaluate(
        document(
            [row()],
            missing=[{**CELL, "reason": "the run ended before it was begun"}],
            command="tiltmeter run m -s int8 --out runs/x",
        ),
        Policy(),
    )
    assert found.exit_code == 3
    assert "m · int8 · worldbench, plain, greedy" in {c.cell for c in found.checks if c.status == "unjudged"}
    assert str(found.summary).endswith("Complete the run with: tiltmeter run m -s int8 --out runs/x")
    assert code([row()], missing=[{**CELL, "strategy": "rerun", "reason": "a control"}]) == 0
    assert code([row()], missing=[{**CELL, "strategy": "none", "reason": "the base"}]) == 3
    assert code([row()], missing=[{**CELL, "strategy": "awq", "reason": "a variant without any row"}]) == 3
    assert code([row("worse")], missing=[{**CELL, "reason": "x"}]) == 1  # a broken limit beats it


def test_an_inconclusive_row_passes_only_where_its_interval_excludes_harm():
    assert code([row("inconclusive", change={"far": 1.9})]) == 0
    assert code([row("inconclusive", change={"far": 2.1})]) == 3
    assert code([row("inconclusive", change={"far": None})]) == 3
    loose = {"default": {"inconclusive": "pass", "exclude_harm_beyond": 5}}
    assert code([row("inconclusive", change={"far": 2.1})], loose) == 0
    assert code([row("inconclusive", change={"far": 5.1})], loose) == 3
    with pytest.raises(UserError, match="exclude_harm_beyond"):
        read_policy({"default": {"exclude_harm_beyond": math.inf}})


@pytest.mark.parametrize("control", ["rerun", "int8+rerun", "rerun+int8", "dtype:bfloat16", "assisted"])
def test_controls_are_neither_judged_nor_chosen(control):
    assert code([row("worse", strategy=control), row()]) == 0
    assert code([row("worse", strategy=control), row()], {"ignore": []}) == 1
    choice = choosing.choose(document([row(strategy="none"), row(strategy=control)]), read_policy({"ignore": []}))
    assert [c.strategy for c in choice.candidates] == ["none"]


def test_the_more_particular_rule_wins():
    policy = {
        "default": {"max_flips": 0.01},
        "benchmarks": {"crows-pairs": {"max_flips": 0.2}},
        "cells": [{"strategy": "int4", "benchmark": "crows-pairs", "max_flips": 0.02}],
    }
    assert [
        check.cell.split(" · ")[1]
        for check in evaluate(document([row(), row(strategy="int4")]), read_policy(policy)).checks
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
    bare = row(change={"flips": None, "distance_delta": None})
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
    gate = evaluate(document([row("worse", strategy="int8", model='a<b>&"\x07\n::error::x')]), Policy())
    suite = ElementTree.fromstring(junit_xml(gate))
    assert suite.attrib["failures"] == "1" and suite[0][0].tag == "failure"
    lines = github_annotations(gate).splitlines()
    assert len(lines) == 1 and lines[0].startswith("::error title=a<b>&") and "%0A" in lines[0]


def variant(strategy, speed=None, size=None):
    return Variant(model="m", strategy=strategy, speed=Speed(decode_tokens_per_s=speed, memory_bytes=size))


def test_the_fastest_inside_the_policy_is_chosen_and_the_pareto_line_marked():
    rows = [
        row(strategy="none"),
        row(strategy="int8"),
        row("worse", strategy="int4", change={"delta": 2.0, "distance_delta": 2.0}),
        row(strategy="fp8", change={"delta": 3.0, "distance_delta": 3.0}),
    ]
    variants = [variant("none", 10, 100), variant("int8", 20, 60), variant("int4", 50, 30), variant("fp8", 15, 50)]
    policy = read_policy({"cells": [{"strategy": "int4", "benchmark": "*"}]})  # names another variant: no matter
    choice = choosing.choose(document(rows, variants), policy)
    assert [c.strategy for c in choice.chosen] == ["int8"]
    assert {c.strategy for c in choice.candidates if c.pareto} == {"none", "int8", "int4"}  # fp8: slower, moved more
    assert "int8 is the fastest inside the policy (2 times the base's decoding speed)" in choice.text
    assert [c.strategy for c in choosing.choose(document(rows, variants), Policy(), by="size").chosen] == ["fp8"]


def test_without_a_measured_speed_nothing_is_called_the_fastest():
    choice = choosing.choose(document([row(strategy="none"), row()], [variant("none"), variant("int8")]), Policy())
    assert choice.chosen == () and "no speed was measured here" in choice.text
    assert all(math.isnan(c.speed) for c in choice.candidates)


@pytest.mark.parametrize(
    "content",
    [
        "default: {allow_partial: true, max_flips: 0.0, require: equivalent}\ndefault: {allow_partial: true}\n",
        "default: {max_rise: 0, max_rise: 9}\n",
        "benchmarks: {crows-pairs: {require: equivalent}, crows-pairs: {}}\n",
        "cells:\n- {strategy: a, strategy: b, benchmark: c}\n",
        "default: {max_rise: .inf}\n",
        "default: {max_rise: .nan}\n",
        "margins: {crows-pairs: .inf}\n",
        f"margins: {{crows-pairs: {'9' * 400}}}\n",
        "default: {require: [a]}\n",
        "default: {allow_partial: 1}\n",
        "1: 2\n",
    ],
)
def test_a_policy_that_says_something_twice_or_nothing_finite_never_opens_a_gate(tmp_path, content):
    from tiltmeter.cli.decisions import load_policy

    path = tmp_path / "policy.yaml"
    path.write_text(content)
    with pytest.raises(UserError):
        load_policy(path)


def fastest(rows, policy=None, **run):
    """What is chosen among rows of a base and of variants that are all twice as fast, and the candidates."""
    names = dict.fromkeys(each.strategy for each in rows)
    variants = [variant(name, 10 if name == "none" else 20, 100) for name in names]
    choice = choosing.choose(
        document([row(strategy="none"), *rows], [variant("none", 10, 100), *variants], **run), policy or Policy()
    )
    return [c.strategy for c in choice.chosen], {c.strategy: c for c in choice.candidates}


@pytest.mark.parametrize(
    "rows,run",
    [
        ([row("inconclusive", change={"far": 4.5})], {}),
        ([row("inconclusive", change={"far": None})], {}),
        ([row("not exercised"), row("not exercised", benchmark="discrim-eval")], {}),
        ([row(partial=True)], {}),
        ([row("no usable signal")], {}),
        ([row()], {"missing": [{**CELL, "reason": "interrupted"}]}),
        ([row()], {"failures": [{"model": "m", "strategy": "int8", "reason": "text quality: gone"}]}),
        ([row("shifted")], {}),
    ],
)
def test_what_the_gate_does_not_pass_is_not_chosen(rows, run):
    chosen, candidates = fastest(rows, **run)
    assert chosen == ["none"] and candidates["int8"].gate in (1, 3) and candidates["int8"].why_not


def test_choose_holds_the_variant_to_the_cells_the_policy_names():
    policy = read_policy({"cells": [{"strategy": "int8", "benchmark": "crows-pairs", "require": "equivalent"}]})
    assert fastest([row("inconclusive", change={"far": 0.5})], policy)[0] == ["none"]
    assert fastest([row("inconclusive", change={"far": 0.5})])[0] == ["int8"]


def test_a_score_that_crossed_its_ideal_is_not_zero_margins_away():
    _, candidates = fastest([row("shifted", change={"delta": 5.0, "distance_delta": 0.0, "margin": 2.0})])
    assert candidates["int8"].largest_change == 2.5  # 47.5 -> 52.5, margin 2


def test_less_data_never_passes_more_easily():
    # the same point estimate with an interval of half the items, a tenth, and none
    ends = (0.9, 1.6, 4.1, None)
    assert [code([row("inconclusive", change={"far": far})]) for far in ends] == [0, 0, 3, 3]
