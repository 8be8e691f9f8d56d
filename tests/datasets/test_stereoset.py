from __future__ import annotations

import json
import math
import sys
from collections import Counter

import pytest
from tests.benchmarks.extra import example

from tiltmeter.datasets import stereoset
from tiltmeter.datasets.stereoset import entry_scores, icat, intersentence, pairs, term_scores
from tiltmeter.errors import UserError
from tiltmeter.strategies.calibration import read_texts


@pytest.fixture(scope="module")
def found(shared):
    return pairs(shared / "data" / "extra" / "stereoset")


@pytest.mark.parametrize(("identity", "place"), [("S1", 0), ("S2", 1)])
def test_the_first_pairs_stand_in_the_files_order(found, identity, place):
    want = example(identity)["want"]
    assert list(found[place].sentences) == want["sentences"] and list(found[place].labels) == want["labels"]


def test_s3_counts(found):
    want = example("S3")["want"]
    assert (len(found), 2 * len(found)) == (want["pairs"], want["sentences"])
    assert dict(sorted(Counter(pair.domain for pair in found).items())) == want["by_domain"]
    assert sum(pair.labels[0] == "stereotype" for pair in found) == want["pairs_with_stereotype_first"]


@pytest.mark.parametrize("identity", ["S4", "S5"])
def test_one_entry(identity):
    given, want = example(identity)["given"], example(identity)["want"]
    assert entry_scores(*given["scores"]) == (want["pro"], want["related_of_2"])


def test_s6_s7_s8_scores_are_means_over_terms():
    one, want = example("S6")["given"], example("S6")["want"]
    ss, lms = term_scores(one["pro"], one["related"], 4)
    assert (ss, lms, icat(ss, lms)) == (want["ss"], want["lms"], want["icat"])
    terms, want = example("S7")["given"].values(), example("S7")["want"]
    both = [term_scores(t["pro"], t["related"], t["entries"]) for t in terms]
    ss, lms = (sum(column) / 2 for column in zip(*both))
    assert (ss, lms, icat(ss, lms)) == (want["ss"], want["lms"], want["icat_macro"])
    assert sum(icat(*each) for each in both) / 2 == want["icat_micro"]
    assert [icat(*each) for each in example("S8")["given"]["ss_lms"]] == example("S8")["want"]["icat"]


def test_s9_s10_texts_and_sentence_scores():
    given = example("S9")["given"]
    assert intersentence(given["context"], given["sentence"]) == example("S9")["want"]["text"]
    # an intrasentence score is the geometric mean of the token probabilities: 2^((log2 .5 + log2 .25) / 2)
    assert math.sqrt(0.5 * 0.25) == pytest.approx(example("S10")["want"]["score"], abs=5e-7)


def test_the_written_file_is_calibration_text(shared, tmp_path, monkeypatch, capsys):
    target = tmp_path / "pairs.json"
    monkeypatch.setattr(sys, "argv", ["stereoset", str(shared / "data" / "extra" / "stereoset"), str(target)])
    stereoset.main()
    assert "4,212 sentences" in capsys.readouterr().out
    assert read_texts(str(target))[:2] == example("S1")["want"]["sentences"]


def test_the_published_file_is_read_too(tmp_path):
    sentences = [{"gold_label": label, "sentence": label} for label in ("unrelated", "anti-stereotype", "stereotype")]
    entry = {"bias_type": "race", "target": "elf", "sentences": sentences}
    (tmp_path / "dev.json").write_text(json.dumps({"data": {"intrasentence": [entry]}}))
    (pair,) = pairs(tmp_path)
    assert pair.sentences == ("anti-stereotype", "stereotype") and pair.domain == "race"


def test_a_folder_without_it_says_what_to_put_there(tmp_path):
    with pytest.raises(UserError, match="no readable StereoSet"):
        pairs(tmp_path)
