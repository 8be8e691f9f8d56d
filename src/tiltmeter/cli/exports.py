"""`tiltmeter export` and `policy`: a run in other tools' formats; policy files for editors and hooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltmeter.cli.decisions import judged, load_policy
from tiltmeter.cli.language import language
from tiltmeter.cli.output import say, say_error
from tiltmeter.decisions import policy_schema
from tiltmeter.decisions.policy import Policy
from tiltmeter.errors import UserError
from tiltmeter.printed import one_line
from tiltmeter.report.exports import FORMATS, export
from tiltmeter.runs.record import run_record
from tiltmeter.schema import Document

FOLDER = "export"  # under the run


def run_export(
    run: Path,
    formats: Sequence[str],
    *,
    strategy: str | None,
    name: str | None,
    base_name: str | None,
    policy: Path | None,
    out: Path | None,
    lang: str | None,
    mlflow: str | None = None,
) -> None:
    """Write the files and print their paths; what was not judged is counted on standard error. Raises UserError."""
    run_record(run)
    if not formats and not mlflow:
        raise UserError("no format was asked for", fix=f"--to {' or --to '.join(FORMATS)}, or --mlflow URI")
    rules = load_policy(policy)
    document = judged(run, rules)
    if mlflow:
        log_to(mlflow, run, document, rules)
    if not formats:
        return
    written = export(
        document,
        formats,
        out or run / FOLDER,
        policy=rules,
        strategy=strategy,
        name=name,
        base_name=base_name,
        lang=language(lang),
    )
    for subject, paths in written:
        for path in paths:
            say(one_line(path))
        n = len(subject.unjudged)
        if n:
            say(one_line(f"{subject.strategy}: {subject.standing}; {n} limits could not be judged"), error=True)


def log_to(uri: str, run: Path, document: Document, rules: Policy | None = None) -> None:
    """Log a run to MLflow and say where each variant is, on standard error. Raises UserError."""
    from tiltmeter.report.exports.mlflow_store import log

    for subject, run_id in log(run, document, uri, policy=rules):
        say(one_line(f"MLflow run {run_id}: {subject.name}"), error=True)


def run_policy(files: Sequence[Path], *, schema: bool) -> int:
    """Check every file, naming each that is no policy; 0 or 2. Or print the schema. Raises UserError for no file."""
    if schema:
        say(policy_schema.text().rstrip())
        return 0
    if not files:
        raise UserError("there is no file to check", fix="tiltmeter policy FILE..., or --schema")
    status = 0
    for path in files:
        try:
            load_policy(path)
        except UserError as error:
            say_error(UserError(f"{path}: {error.message}", fix=error.fix))
            status = 2
    return status
