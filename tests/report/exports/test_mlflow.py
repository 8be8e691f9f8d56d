"""The MLflow logger, read back from a real local tracking store by MLflow's own client."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_documents import document, row
from report_run import POISON

from tiltmeter.errors import UserError
from tiltmeter.report.exports.mlflow_store import EXPERIMENT, log
from tiltmeter.schema import Variant

mlflow = pytest.importorskip("mlflow", reason='needs pip install "tiltmeter[mlflow]"')


@pytest.fixture
def store(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def stored(uri: str):
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client, client.search_runs([experiment.experiment_id])


def made(**more):
    rows = [row(None, "none"), row("worse", complete=True), row("no usable signal", benchmark="worldbench", **more)]
    return document(rows, [Variant(model="m", strategy="none"), Variant(model="m", strategy="int8")])


def test_a_variant_is_a_run_with_its_numbers_its_verdicts_and_its_report(tmp_path, store):
    (tmp_path / "report.html").write_text("<!doctype html>")
    ((subject, run_id),) = log(tmp_path, made(score=None, reason="nothing could be read"), store)
    client, (found,) = stored(store)
    assert (found.info.run_id, found.info.run_name, found.info.status) == (run_id, "m+int8", "FINISHED")
    metrics = found.data.metrics
    assert metrics["crows-pairs/plain-greedy/score"] == 60.0
    assert metrics["crows-pairs/plain-greedy/distance_from_ideal"] == 10.0
    assert metrics["crows-pairs/plain-greedy/change_low"] == 0.5
    assert "worldbench/plain-greedy/score" not in metrics  # undefined: a tag says why
    assert found.data.tags["tiltmeter.worldbench.plain-greedy.score"] == "undefined: nothing could be read"
    assert found.data.tags["tiltmeter.crows-pairs.plain-greedy.verdict"] == "worse"
    assert found.data.tags["tiltmeter.gate"] == "outside the policy"
    assert "worldbench" in found.data.tags["tiltmeter.not_judged"]
    assert found.data.params["strategy"] == subject.strategy == "int8"
    assert [file.path for file in client.list_artifacts(run_id)] == ["report.html"]


def test_a_second_run_goes_into_the_same_experiment(tmp_path, store):
    for _ in range(2):
        log(tmp_path, made(), store)
    assert len(stored(store)[1]) == 2


def test_hostile_names_are_taken(tmp_path, store):
    rows = [row(None, "none", benchmark="b" + POISON), row("worse", benchmark="b" + POISON)]
    log(tmp_path, document(rows, [Variant(model="m", strategy="int8")]), store)
    assert len(stored(store)[1]) == 1


def test_a_store_that_refuses_and_a_password_in_an_address_are_mistakes(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    with pytest.raises(UserError, match="did not take the run"):
        log(tmp_path, made(), (Path(tmp_path) / "other").as_uri())
    with pytest.raises(UserError, match="neither user, password") as error:
        log(tmp_path, made(), "http://me:secret@localhost:5000")
    assert "secret" not in str(error.value)
