"""Variants of one model are asked the same: their batches are planned once, and never for others."""

import pytest

from tiltmeter.benchmarks.base import Item
from tiltmeter.runs.inputs import Inputs, write_inputs
from tiltmeter.runs.loading import Loader
from tiltmeter.runs.progress import Silent
from tiltmeter.schema import RunRecord
from tiltmeter.scoring.requests import SequenceLogprob
from tiltmeter.study import make_study


class Planning:
    """An engine whose plan tells what it follows from."""

    def __init__(self, rows=1):
        self.rows, self.planned = rows, 0

    def plan(self, requests, salt=""):
        self.planned += 1
        numbers = list(range(len(list(requests))))
        return [numbers[self.rows :], numbers[: self.rows]] if salt else [numbers[: self.rows], numbers[self.rows :]]


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """(of a variant's place in the study, rows) -> its plan, and how often that engine planned."""
    study = make_study(models=["a", "b"], strategies=["int8", "int4", "rerun"])
    loader = Loader(study, RunRecord(), None, Silent())

    def of(number, rows=1, texts=("x", "y", "z")):
        asked = [(Item(id=text, cluster="c", groups={}, data={}), (SequenceLogprob(text),)) for text in texts]
        inputs = Inputs(tmp_path / f"{write_inputs(tmp_path, asked)}.jsonl")
        engine = Planning(rows)
        monkeypatch.setattr(loader, "engine", lambda spec: engine)
        return loader.plan(study.variants()[number], inputs), engine.planned

    assert [spec.strategy for spec in study.variants()[:4]] == ["none", "int8", "int4", "rerun"]
    return of


def test_the_variants_of_a_model_share_one_plan(planned):
    assert planned(0) == ([[0], [1, 2]], 1)
    assert planned(1) == planned(2) == ([[0], [1, 2]], 0)


def test_another_order_width_text_or_model_is_planned_anew(planned):
    planned(0)
    assert planned(3) == ([[1, 2], [0]], 1)  # rerun's salt
    assert planned(1, rows=2) == ([[0, 1], [2]], 1)
    assert planned(1, texts=("x", "w")) == ([[0], [1]], 1)
    assert planned(4) == ([[0], [1, 2]], 1)  # the other model, whose tokenizer may be another


def test_an_engine_that_does_not_say_what_its_plan_follows_from_plans_for_itself(planned, monkeypatch):
    plans = iter([[[0, 1, 2]], [[2, 1, 0]]])
    monkeypatch.setattr(Planning, "plan", lambda self, requests, salt="": next(plans))
    assert [planned(number, rows=None)[0] for number in (0, 1)] == [[[0, 1, 2]], [[2, 1, 0]]]


def test_a_plan_that_is_changed_is_not_the_kept_one(planned):
    plan, _ = planned(0)
    plan[0].append(7)
    assert planned(1)[0] == [[0], [1, 2]]
