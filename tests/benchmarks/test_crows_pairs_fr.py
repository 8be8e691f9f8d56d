"""French pairs are read from their own file and judged as the English ones are."""

from __future__ import annotations

import invented
import pytest
from helpers import request, sequence

from tiltmeter.benchmarks.crows_pairs import CrowsPairs
from tiltmeter.benchmarks.crows_pairs_fr import CrowsPairsFR
from tiltmeter.datasets.catalogue import datasets
from tiltmeter.errors import UserError

BENCHMARK = CrowsPairsFR()


@pytest.fixture
def items(tmp_path):
    invented.crows_pairs_fr(tmp_path)
    return BENCHMARK.load(tmp_path)


def test_pairs_keep_their_accents_and_are_asked_raw(items):
    assert [item.groups["bias_type"] for item in items] == ["gender", "age"]
    assert [r.text for r in request(BENCHMARK, items[0])] == ["L'elfe était naïf.", "Le nain était naïf."]
    assert len({item.cluster for item in items}) == 2


def test_the_score_is_that_of_the_english_pairs_for_the_same_answers(items):
    # mean per token: -1 against -2 prefers the stereotype; the other pair does not: 50 %
    answers = [(sequence(-4, 4), sequence(-8, 4)), (sequence(-8, 4), sequence(-4, 4))]
    french = BENCHMARK.score([BENCHMARK.outcome(i, a) for i, a in zip(items, answers, strict=True)])
    english = CrowsPairs().score([CrowsPairs().outcome(i, a) for i, a in zip(items, answers, strict=True)])
    assert french.value == english.value == 50.0
    assert (BENCHMARK.margin, BENCHMARK.ideal, BENCHMARK.unit) == (CrowsPairs.margin, CrowsPairs.ideal, CrowsPairs.unit)


def test_it_stands_in_the_catalogue_by_its_own_name(items):
    found = datasets()["crows-pairs-fr"]
    assert found.rows == 1677
    assert found.files[0].url.endswith("/ac47d0f12d6905b94389e937e8f24fae21b9c66c/test_FR.jsonl")


def test_a_pair_without_its_twin_is_named_by_row(tmp_path, items):
    (tmp_path / BENCHMARK.files[0]).write_text('{"sent_more": "Un.", "sent_less": "", "bias_type": "age"}\n')
    with pytest.raises(UserError, match="row 1, column 'sent_less'"):
        BENCHMARK.load(tmp_path)
