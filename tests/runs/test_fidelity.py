"""Fidelity of a run: exactly 0 for the same weights, above it for others, bounded on disk, gone at the end."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tiltmeter.benchmarks.base import Outcome, Sample
from tiltmeter.benchmarks.crows_pairs import CrowsPairs
from tiltmeter.cli.tables import show
from tiltmeter.demo import command
from tiltmeter.pipeline import run
from tiltmeter.report import build_report, markdown_summary
from tiltmeter.results.displacement import ITEMS, SIGNED, SIZE, displacement
from tiltmeter.results.document import read_document
from tiltmeter.runs import fidelity
from tiltmeter.runs.fidelity import Spot
from tiltmeter.schema.fidelity import Divergence
from tiltmeter.study import make_study


def study(**more):
    settings = {
        "models": (str(command.BASE),),
        "benchmarks": ("crows-pairs", "discrim-eval"),
        "strategies": ("rerun", "magnitude:sparsity=0.3"),
        "data": str(command.DATA),
        "limits": {"crows-pairs": 40, "discrim-eval": 135},
        "draws": 100,
    }
    return make_study(**{**settings, **more})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fidelity") / "run"
    run(study(), folder)
    return folder


def of(folder, strategy):
    return next(v.fidelity for v in read_document(folder).variants if v.strategy == strategy)


def test_the_same_model_again_lies_exactly_on_its_base(done):
    found = of(done, "rerun")
    assert found.text.n > 100
    for each in (found.text, *found.prompts.values()):
        assert (each.mean, each.largest, each.same_top) == (0, 0, 1)
    assert found.text.perplexity_ratio == 1


def test_a_pruned_model_lies_off_it_on_the_text_and_on_every_prompt(done):
    found = of(done, "magnitude:sparsity=0.3")
    assert set(found.prompts) == {"crows-pairs plain greedy", "discrim-eval plain greedy"}
    for each in (found.text, *found.prompts.values()):
        assert 0 < each.median < each.p99 <= each.largest and each.mean > 0
    assert found.text.same_top < 1
    assert len(found.prompts["crows-pairs plain greedy"].items) == 32  # of the 40 asked
    perplexities = {v.strategy: v.text_quality.perplexity for v in read_document(done).variants}
    ratio = perplexities["magnitude:sparsity=0.3"] / perplexities["none"]  # of more tokens: near, not equal
    assert found.text.perplexity_ratio == pytest.approx(ratio, rel=0.1)


def test_the_base_has_none_and_its_logits_are_gone(done):
    assert of(done, "none") is None
    assert not (done / fidelity.FOLDER).exists()


def test_it_is_shown_with_what_it_does_not_say(done, capsys):
    show(read_document(done))
    text = " ".join(capsys.readouterr().out.split())
    assert "KL to the base" in text and "displacement, not direction" in text
    page = build_report(done).read_text(encoding="utf-8")
    assert "displacement, not direction" in page and "KL, nats/token" in page
    assert "Distance from the base" in markdown_summary(done)


def test_a_change_carries_the_rank_correlations_of_its_cell(done):
    row = next(
        r for r in read_document(done).rows if r.strategy.startswith("magnitude") and r.benchmark == "crows-pairs"
    )
    assert row.change.extra[ITEMS] == 32
    assert -1 <= row.change.extra[SIGNED] <= 1 and -1 <= row.change.extra[SIZE] <= 1


def test_a_second_start_measures_nothing_anew_and_another_text_does(done, monkeypatch):
    asked = []
    real = fidelity.beside_base
    monkeypatch.setattr(fidelity, "beside_base", lambda *a: asked.append(1) or real(*a))
    run(study(), done)
    assert not asked
    run(study(seed=0, text=str(command.DATA / "text" / "calibration.txt")), done)
    assert len(asked) == 2  # both variants; the base was loaded once more


def test_it_can_be_switched_off(tmp_path):
    run(study(fidelity=False, benchmarks=("crows-pairs",), limits={}, limit=40, draws=10_000), tmp_path / "run")
    assert of(tmp_path / "run", "rerun") is None
    assert "--no-fidelity" in read_document(tmp_path / "run").run.command


def test_a_large_vocabulary_keeps_fewer_positions_of_every_part():
    spots = [
        Spot(of, str(n), (1, 2, 3), (0, 1), (2, 3))
        for of, count in (("", 60), ("a", 30), ("b", 1))
        for n in range(count)
    ]
    kept = fidelity._thinned(spots, 50)
    by_part = {of: sum(len(s.positions) for s in kept if s.of == of) for of in ("", "a", "b")}
    assert by_part == {"": 32, "a": 16, "b": 1}  # 50 x 120/182, 50 x 60/182, 50 x 2/182 but at least one


def test_rank_correlations_tell_size_from_direction():
    """Ten items; the more displaced an item, the more it changes, up and down in turn: 1 in size, about 0 in sign."""

    def outcome(item: int, lean: float) -> Outcome:
        return Outcome(str(item), str(item), {}, (Sample(1.0, values={"log_ratio": lean}),))

    found = Divergence(n=10, items=tuple(map(str, range(10))), of_item=tuple(float(k) for k in range(10)))
    base = [outcome(k, 0.0) for k in range(10)]
    variant = [outcome(k, k * (-1) ** k) for k in range(10)]
    told = displacement(found, CrowsPairs(), base, variant)
    assert told[SIZE] == pytest.approx(1)
    assert abs(told[SIGNED]) < 0.3
    still = displacement(found, CrowsPairs(), base, base)
    assert math.isnan(still[SIZE]) and still[ITEMS] == 10


def test_what_is_stored_is_json_without_nan(done):
    for path in (done / "variants").glob("*.json"):
        json.loads(path.read_text("utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert np.isfinite(of(done, "rerun").seconds)
