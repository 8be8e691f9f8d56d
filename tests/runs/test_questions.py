"""What models are asked: written for all of them while a benchmark's items are in memory, and for each as if alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tiltmeter.demo.command import DATA
from tiltmeter.errors import UserError
from tiltmeter.registry import build
from tiltmeter.runs.progress import Silent
from tiltmeter.runs.questions import Questions
from tiltmeter.runs.store import Store
from tiltmeter.study import make_study

NAMES = ["discrim-eval-gen", "winobias"]


class Models:
    """Stands in for a loader: each model's renderer puts its name before a prompt; those in `broken` have none."""

    def __init__(self, *broken: str) -> None:
        self._broken = broken

    def identity(self, source):
        def renderer(_format):
            if source in self._broken:
                raise UserError(f"no template in {source}", fix="give one")
            return lambda user, system="": f"{source}: {user}", []

        return SimpleNamespace(renderer=renderer)


def questions_of(folder, models, *broken):
    study = make_study(
        models=models, strategies=["rerun"], benchmarks=NAMES, data=str(DATA), limit=4, decoding="both", samples=2
    )
    benchmarks = [build("benchmark", name) for name in NAMES]
    return Questions(Store(folder).__enter__(), study, benchmarks, Silent(), Models(*broken)), study.variants()


def counted(benchmark, read):
    """Its `load`, which notes every call in `read`."""
    load = benchmark.load
    return lambda data: read.append(benchmark.name) or load(data)


def test_every_model_and_seed_is_asked_what_it_is_asked_alone(tmp_path):
    together, specs = questions_of(tmp_path / "together", ["a", "b"])
    together.specs = specs
    alone = [questions_of(tmp_path / f"{n}", ["a", "b"])[0].of(spec) for n, spec in enumerate(specs)]
    assert [together.of(spec) for spec in specs] == alone
    assert len({asked.inputs for cell in alone for asked in cell if asked.decoding == "sampling"}) == len(specs)


def test_a_benchmark_is_read_once_for_all_models_and_seeds(tmp_path, monkeypatch):
    questions, specs = questions_of(tmp_path, ["a", "b"])
    read = []
    for benchmark in questions._benchmarks:
        monkeypatch.setattr(benchmark, "load", counted(benchmark, read))
    questions.specs = specs
    for spec in specs:
        questions.of(spec)
    assert read == NAMES


def test_what_cannot_be_asked_of_one_model_costs_no_other_and_is_said_in_its_turn(tmp_path):
    questions, specs = questions_of(tmp_path, ["a", "b"], "b")
    questions.specs = specs
    good, bad = specs[0], next(spec for spec in specs if spec.source == "b")
    assert questions.of(good)
    with pytest.raises(UserError, match="no template in b"):
        questions.of(bad)
