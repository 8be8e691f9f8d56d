"""MLflow: one MLflow run per variant in a tracking store (a server, a database, a folder).

Logged      metrics: score, distance from the ideal, change, the ends of its interval, per benchmark and way of asking;
            params: strategy, base, digest; tags: verdicts, the gate's answer, what was not judged; artifacts: report
            and results where the run folder has them.
Missing     A number that is undefined is not logged: MLflow would draw it. Its reason is a tag.
Needs       pip install "tiltmeter[mlflow]". A folder (file:…) as a store must be allowed since MLflow 3.17:
            MLFLOW_ALLOW_FILE_STORE=true. Passwords belong into MLFLOW_TRACKING_USERNAME and _PASSWORD.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiltmeter.decisions.policy import Policy
from tiltmeter.errors import UserError, missing_extra
from tiltmeter.models.address import refuse_secret
from tiltmeter.printed import clean, defined
from tiltmeter.report.exports.subject import Subject, asked, details, distance, subjects
from tiltmeter.schema import Document, Row

EXPERIMENT = "tiltmeter"
LONGEST = 5000  # characters of a tag that every store takes
ARTIFACTS = ("report.html", "results.json")


def log(run: Path, document: Document, uri: str, *, policy: Policy | None = None) -> list[tuple[Subject, str]]:
    """Log every variant and return each with the id of its MLflow run.

    Raises UserError where MLflow is not installed, or the store refuses.
    """
    client_of, refused = ready(uri)
    found = subjects(document, policy or Policy())
    try:
        client = client_of(tracking_uri=uri)
        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
        return [(subject, _log(client, experiment, subject, run)) for subject in found]
    except (refused, OSError) as error:
        raise UserError(
            f"MLflow's store did not take the run: {str(error)[:600]}", fix="check --mlflow URI; the run itself is kept"
        ) from None


def ready(uri: str) -> tuple[Any, type[Exception]]:
    """MLflow's client and its exception. Raises UserError where it is not installed, or the address holds a secret."""
    refuse_secret(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # what is measured here is nobody else's business
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise missing_extra("mlflow", "mlflow", "--mlflow") from None
    return MlflowClient, MlflowException


def _log(client: Any, experiment: str, subject: Subject, run: Path) -> str:
    tags = {name: clean(text)[:LONGEST] for name, text in _tags(subject)}
    made = client.create_run(experiment, run_name=subject.name, tags=tags).info.run_id
    for row in subject.rows:
        for metric, number in _metrics(row):
            client.log_metric(made, "/".join(map(_key, (row.benchmark, asked(row), metric))), number)
    params = {
        "base_model": subject.base_name,
        "strategy": subject.strategy,
        "dtype": subject.variant.dtype or "unknown",
        "sha256": subject.digest.sha256,
        "sha256_of": subject.digest.of,
    }
    for name, value in params.items():
        client.log_param(made, name, clean(value)[:LONGEST])
    for name in ARTIFACTS:
        if (run / name).is_file():
            client.log_artifact(made, str(run / name))
    client.set_terminated(made)
    return str(made)


def _metrics(row: Row) -> Iterator[tuple[str, float]]:
    change = row.change
    low, high = change.ci if change and change.ci else (float("nan"), float("nan"))
    numbers = {"score": row.score, "distance_from_ideal": distance(row)[0]}
    if change:
        numbers |= {"change": change.delta, "change_low": low, "change_high": high, "p_adjusted": change.p_adjusted}
    yield from ((name, value) for name, value in numbers.items() if defined(value))


def _tags(subject: Subject) -> Iterator[tuple[str, str]]:
    yield "tiltmeter.gate", subject.standing
    yield "tiltmeter.not_judged", "\n".join(subject.unjudged) or "nothing: every cell was judged"
    for row in subject.rows:
        said = details(subject, row)
        where = f"tiltmeter.{row.benchmark}.{asked(row)}"
        yield _key(f"{where}.verdict"), said["verdict"]
        if not defined(row.score):
            yield _key(f"{where}.score"), said["score"]


def _key(name: str) -> str:
    """A part of a name, of the characters that MLflow takes there; a store may make a folder of it."""
    return re.sub(r"[^\w.-]|\.\.", "-", name, flags=re.ASCII)[:150]
