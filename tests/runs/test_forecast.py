"""The plan before a run: counts are those of the run, nothing is touched, what cannot be judged is said."""

from __future__ import annotations

import math

import pytest
from typer.testing import CliRunner

from tiltmeter.benchmarks.imagined import imagined_outcomes
from tiltmeter.cli.commands import app
from tiltmeter.cli.forecast import show_forecast, totals
from tiltmeter.demo import command
from tiltmeter.pipeline import run
from tiltmeter.registry import build, known
from tiltmeter.runs import forecast as planning
from tiltmeter.runs.forecast import forecast
from tiltmeter.runs.store import started_cells
from tiltmeter.study import make_study


def study(**more):
    settings = {"models": (str(command.BASE),), "benchmarks": ("crows-pairs",), "strategies": ("int8",)}
    return make_study(**{**settings, "data": str(command.DATA), **more})


def test_cells_and_requests_are_those_that_the_run_asks(tmp_path):
    asked = study(
        strategies=("rerun",), benchmarks=("crows-pairs", "discrim-eval"), format="both", limit=40, text_quality=False
    )
    run(asked, tmp_path / "run")
    cells = started_cells(tmp_path / "run")
    plan = forecast(asked)
    assert plan.n_cells == len(cells)
    assert plan.n_requests == sum(cell.inputs.n_requests for cell in cells)
    tokens = sum(cell.done.tokens for cell in cells if cell.id.format == "plain")
    plain = plan.n_variants * sum(part.read_tokens for part in plan.parts if part.format == "plain")
    assert plain == pytest.approx(
        tokens, rel=0.15
    )  # of a sample of 64 requests; the first token of a text is not scored


def test_a_dry_run_writes_and_loads_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tiltmeter.pipeline.run", lambda *a, **k: pytest.fail("it ran"))
    words = ["run", str(command.BASE), "-s", "int8", "-b", "crows-pairs", "--data", str(command.DATA)]
    found = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out"), "--dry-run"])
    assert found.exit_code == 0 and "2 cells" in found.output and "Nothing was downloaded" in found.output
    assert not (tmp_path / "out").exists()


def test_data_and_models_that_are_not_here_are_said_and_not_refused(tmp_path):
    plan = forecast(study(models=("nobody/nothing",), data=str(tmp_path)))
    assert math.isnan(plan.seconds) and plan.parts[0].n_requests == 0 and plan.parts[0].n_items == 1508
    words = ["run", "nobody/nothing", "-b", "crows-pairs", "--dry-run"]
    found = CliRunner().invoke(app, [*words, "--data", str(tmp_path), "--out", str(tmp_path / "o")])
    assert found.exit_code == 0 and "tiltmeter data fetch crows-pairs" in " ".join(found.output.split())


def test_a_model_that_is_here_is_not_called_absent_where_only_data_are(tmp_path):
    (tmp_path / "crows_pairs").symlink_to(command.DATA / "crows_pairs")
    plan = forecast(study(benchmarks=("crows-pairs", "worldbench"), data=str(tmp_path)))
    lines = " ".join(map(str, totals(plan)))
    assert "while data are missing" in lines and "not on this machine" not in lines


def test_a_limit_too_small_for_a_verdict_is_said():
    (part,) = forecast(study(limit=20)).parts
    assert "below 30 no verdict" in str(part.warning)
    (part,) = forecast(study(limit=100, margins={"crows-pairs": 50.0})).parts
    assert part.warning is None


def test_every_run_begins_with_what_it_cannot_judge(tmp_path, monkeypatch):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("tiltmeter.pipeline.run", stopped)
    words = ["run", str(command.BASE), "-s", "int8", "-b", "crows-pairs", "--data", str(command.DATA), "--limit", "20"]
    found = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert found.exit_code == 130 and "below 30 no verdict" in " ".join(found.output.split())


def test_more_comparisons_find_less():
    """Holm leaves 5 % / k to one of k: the detectable change grows with the quantile, (z(k) + .84) / (z(1) + .84)."""
    five = ("int8", "int4", "kv8", "kv4", "wanda")
    one, many = (forecast(study(strategies=names)).parts[0].mde for names in (five[:1], five))
    assert many / one == pytest.approx((2.576 + 0.8416) / (1.960 + 0.8416), rel=1e-3)  # z of 1 % and of 5 %, two-sided


def test_the_smallest_change_is_that_of_five_percent_of_turned_pairs(shared):
    """2.80 standard errors of 100 x the mean of +-1 at a share f: 280 sqrt(f / 1508), f the share that turned."""
    asked = study(data=str(shared / "data"))
    benchmark = build("benchmark", "crows-pairs")
    base, variant = imagined_outcomes(benchmark, benchmark.load(shared / "data"), seed=0)
    turned = sum(b.score != v.score for b, v in zip(base, variant)) / 1508
    assert 0.03 < turned < 0.07
    assert forecast(asked).parts[0].mde == pytest.approx(280 * (0.05 / 1508) ** 0.5, rel=0.2)


def test_every_benchmark_of_the_paper_can_be_planned(monkeypatch):
    names = [name for name, cls in known("benchmark").items() if cls.by_default]
    plan = forecast(study(benchmarks=tuple(names), limit=200))
    unknown = [part.benchmark.name for part in plan.parts if math.isnan(part.mde) and part.warning is None]
    assert unknown == []


def test_numbers_stand_whole_at_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    plan = forecast(
        study(benchmarks=("crows-pairs", "dt-stereotyping", "discrim-eval"), decoding="both", format="both", limit=150)
    )
    show_forecast(plan)
    shown = capsys.readouterr().out
    assert "…" not in shown
    for part in plan.parts:
        assert f"{part.n_requests:,}" in shown


def test_a_measured_rate_is_a_rate():
    assert 1e7 < planning._flops(64, 256) < 1e15
