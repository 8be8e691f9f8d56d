"""`tiltmeter evidence`, `verify` and `reproduce`: statements of a run, held to what they are about."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import typer

from tiltmeter.cli.decisions import load_policy
from tiltmeter.errors import UserError
from tiltmeter.evidence.reproduce import exit_status, reproduce
from tiltmeter.evidence.signing import opened, sealed
from tiltmeter.evidence.statement import canonical, statements
from tiltmeter.printed import without_controls
from tiltmeter.results.computed import document
from tiltmeter.runs.record import run_record

FOLDER = "evidence"  # under the run


def run_evidence(run: Path, *, policy: Path | None, key: Path | None, out: Path | None) -> int:
    """Write one statement per variant; 0 when all were written. Raises UserError."""
    target = out or run / FOLDER
    made = _statements(run, policy)
    if not made:
        raise UserError(f"{run} has no variant beside its base", fix="tiltmeter run MODEL -s STRATEGY --out RUN")
    target.mkdir(parents=True, exist_ok=True)
    for name, statement in made.items():
        content = sealed(statement, key) if key else json.loads(statement)
        path = target / f"{name}{'.dsse.json' if key else '.intoto.json'}"
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
        _echo(f"{path}  {'signed' if key else 'not signed'}")
    return 0


def run_verify(files: list[Path], *, run: Path | None, policy: Path | None, key: Path | None) -> int:
    """Hold statements to a key and to a run's own answers.

    0 everything was confirmed, 1 a statement is not what the run shows, 3 something could not be confirmed. Raises
    UserError for a signature that the key does not confirm.
    """
    made = set(_statements(run, policy).values()) if run else None
    status = 0
    for path in files:
        statement, signer = opened(path, key)
        signed = f"signed by key {signer[:16]}" if signer else "no signature was checked: nobody vouches for it"
        if made is None:
            held, code = "not held to a run (--run RUN)", 3
        elif canonical(statement) in made:
            held, code = f"the answers of {run} give it to the byte", 0
        else:
            held, code = f"the answers of {run} do NOT give it", 1
        code = code if signer or code else 3
        status = 1 if 1 in (status, code) else max(status, code)
        _echo(f"{path}: {signed}; {held}")
    return status


def run_reproduce(first: Path, second: Path) -> int:
    """Print every row of two runs; the exit status of `reproduce.exit_status`."""
    rows, differences = reproduce(first, second)
    for line in differences:
        _echo(f"differs  {line}")
    for again in rows:
        changed = f"{again.n_changed} of {again.n_items} items differ" if again.n_changed else ""
        _echo(f"{again.answer:>15}  {again.place}: {'; '.join(part for part in (changed, again.why) if part)}")
    return exit_status(rows)


def _statements(run: Path, policy: Path | None) -> dict[str, bytes]:
    """Made anew from the run's answers, never from a stored results document."""
    rules = load_policy(policy)
    digest = hashlib.sha256(policy.read_bytes()).hexdigest() if policy else None
    made = statements(document(run), run_record(run), rules, digest)
    return {name: canonical(statement) for name, statement in made.items()}


def _echo(text: str) -> None:
    typer.echo(without_controls(text))
