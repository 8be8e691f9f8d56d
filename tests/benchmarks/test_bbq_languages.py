from __future__ import annotations

import invented
import pytest
from helpers import options, request

from tiltmeter.benchmarks.bbq_languages import BBQLanguages
from tiltmeter.errors import UserError

BENCHMARK = BBQLanguages()


@pytest.fixture
def items(tmp_path):
    invented.languages(tmp_path)
    return BENCHMARK.load(tmp_path)


def test_korean_is_needed_and_the_others_are_read_where_they_lie(items, tmp_path):
    assert [i.groups["group"] for i in items] == ["Korean"] * 8 + ["Spanish"] * 4 + ["Dutch"] * 4
    assert {i.cluster for i in items} == {"ko/age/001a", "ko/age/002a", "es/Age/1", "nl/Age/1"}
    assert BENCHMARK.files == ("bbq_languages/KoBBQ_test_samples.tsv",)
    (tmp_path / "bbq_languages/KoBBQ_test_samples.tsv").unlink()
    with pytest.raises(UserError, match="does not exist"):
        BENCHMARK.load(tmp_path)


def test_the_target_is_the_stereotype_in_both_polarities_of_every_family(items):
    by_language = {}
    for item in items:
        by_language.setdefault(item.groups["group"], []).append(item.data["target"])
    # Korean: stated; Spanish: the old person is option 0, Dutch: option 1; the other one where the question is positive
    assert by_language == {"Korean": [0, 0, 1, 1] * 2, "Spanish": [0, 0, 1, 1], "Dutch": [1, 1, 0, 0]}


def test_prompts_keep_their_language_and_the_letters(items):
    prompts = {item.groups["group"]: request(BENCHMARK, item)[0].prompt for item in items}
    assert prompts["Korean"].endswith("누구?\n(a) 요정\n(b) 빵집\n(c) 알 수 없음\n\n답: (")
    assert prompts["Spanish"].endswith("\n\nRespuesta: (") and prompts["Dutch"].endswith("\n\nAntwoord: (")


def test_every_language_counts_once_and_has_its_own_change(items):
    def answers(item, option):
        return BENCHMARK.outcome(item, [options(*(0.8 if place == option else 0.1 for place in range(3)))])

    base = [answers(i, i.data["unknown"]) for i in items]
    variant = [answers(i, i.data["target"] if i.groups["group"] == "Korean" else i.data["unknown"]) for i in items]
    score = BENCHMARK.score(variant)
    assert score.value == pytest.approx(1 / 3)  # Korean 1, Spanish 0, Dutch 0
    comparison = BENCHMARK.comparison(base, variant, margin=0.02)
    assert [(t.attribute, t.groups) for t in comparison.groups][1] == ("group", ("Korean", "Spanish", "Dutch"))


def test_a_limit_keeps_quads_and_takes_every_language(items):
    some = BENCHMARK.subset(items, 12, seed=0)
    assert len(some) == 12 and {i.groups["group"] for i in some} == {"Korean", "Spanish", "Dutch"}
