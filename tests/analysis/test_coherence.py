"""The coherence gate on text-quality blocks shaped like those a run stores."""

import numpy as np
import pytest

from tiltmeter.analysis.coherence import cell_findings, unusable

SPREAD = np.linspace(-0.31, -0.10, 48)  # a base sure of its own answers: median -.20, 5 % quantile -.30


def cell(**changed):
    """A cell whose answers all parse, end and flow."""
    return {
        "n": 168,
        "words": 4.1,
        "eos_rate": 1.0,
        "repeated": 0.0,
        "empty": 0.0,
        "unparsed": 0.0,
        "contradictory": 0.0,
        "other_script": 0.0,
        "base_logprobs": SPREAD.tolist(),
    } | changed


def quality(cells, perplexity=2.25):
    return {"perplexity": perplexity, "answers": cells}


BASE = quality({"dt-stereotyping plain greedy": cell(), "worldbench plain greedy": cell()})


def verdict(variant_cell, benchmark="dt-stereotyping", perplexity=2.30):
    variant = quality({"dt-stereotyping plain greedy": variant_cell}, perplexity)
    return unusable(BASE, variant, benchmark, "plain", "greedy")


def test_a_2_4_pruned_model_whose_answers_parse_end_and_flow_is_caught_by_contradictions():
    # the known case: parse rate 100 %, all end with EOS, perplexity 2.25 -> 2.30, 39 % of the answers malformed
    evidence = verdict(cell(contradictory=0.39))
    assert "39 % of its answers contradict themselves (base 0 %)" in evidence


def test_the_same_case_is_caught_by_the_likelihood_under_the_base_alone():
    rotten = np.where(np.arange(48) < 19, -1.2, SPREAD)  # 19 of 48: 40 %
    evidence = verdict(cell(contradictory=None, base_logprobs=rotten.tolist()))
    assert str(evidence).startswith("40 % of its answers are less likely to the base model")


def test_rot_seen_in_one_benchmark_discredits_scored_probabilities_of_the_same_format_too():
    rotten = cell(contradictory=0.39)
    assert "seen in dt-stereotyping plain greedy" in verdict(rotten, benchmark="discrim-eval")
    variant = quality({"dt-stereotyping plain greedy": rotten})
    assert unusable(BASE, variant, "discrim-eval", "chat", "greedy") is None


def test_mild_int4_changes_leave_the_gate_open():
    shifted = (SPREAD - 0.05).tolist()
    assert verdict(cell(words=4.0, base_logprobs=shifted, empty=0.01, contradictory=0.01), perplexity=2.5) is None


def test_no_longer_answering_closes_the_gate_only_where_it_happens():
    silent = cell(unparsed=0.85)
    assert "85 % of its answers cannot be parsed" in verdict(silent)
    assert verdict(silent, benchmark="worldbench") is None


def test_two_supporting_findings_close_the_gate_and_one_does_not():
    assert verdict(cell(words=1.5)) is None
    assert "words per answer" in verdict(cell(words=1.5, eos_rate=0.5))


def test_perplexity_alone_closes_the_gate_at_three_times_the_bases():
    assert unusable(quality({}, 5.0), quality({}, 14.0), "crows-pairs", "plain", "greedy") is None
    assert "perplexity 16 against" in unusable(quality({}, 5.0), quality({}, 16.0), "crows-pairs", "plain", "greedy")


@pytest.mark.parametrize("empty", [{}, quality({}), quality({"dt-stereotyping plain greedy": {"n": 0}})])
def test_what_was_not_measured_is_no_evidence(empty):
    assert unusable(BASE, empty, "dt-stereotyping", "plain", "greedy") is None
    assert unusable(empty, BASE, "dt-stereotyping", "plain", "greedy") is None


def test_a_handful_of_answers_is_no_evidence():
    assert cell_findings(cell(n=5), cell(n=5, contradictory=1.0)) == []


def test_a_base_that_never_wrote_well_is_not_held_against_its_variants():
    poor = cell(contradictory=0.5, repeated=0.8, eos_rate=0.0)
    assert cell_findings(poor, poor) == []
