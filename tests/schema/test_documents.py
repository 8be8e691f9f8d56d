"""The results document is read as it was written, by any version that could have written it, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from made_documents import document, row
from typer.testing import CliRunner

from tiltmeter.cli.commands import app, main
from tiltmeter.errors import UserError
from tiltmeter.messages import Message
from tiltmeter.printed import null
from tiltmeter.results.computed import recomputed
from tiltmeter.results.document import read_document, read_results
from tiltmeter.schema.__main__ import text

OLD = Path(__file__).parent.parent / "results" / "run_before_the_schema"  # written by commit 599d797, built-in model


@pytest.fixture
def old(tmp_path) -> Path:
    run = Path(shutil.copytree(OLD, tmp_path / "run"))
    (run / "results.json").touch()  # written last, as a run does
    return run


def covers(written, read) -> bool:
    """Whether everything that was written is read again, value for value; more may be there.

    Sentences were kept as NAME and NAME_said; now as NAME and NAME_message.
    """
    if isinstance(written, dict):
        kept = {name: value for name, value in written.items() if not name.endswith("_said")}
        return isinstance(read, dict) and all(
            name in read and covers(value, read[name]) for name, value in kept.items()
        )
    if isinstance(written, list):
        return len(written) == len(read) and all(map(covers, written, read))
    return written == read


def test_the_schema_kept_in_the_documentation_is_current(request):
    kept = request.config.rootpath / "docs" / "results.schema.json"
    assert kept.read_text(encoding="utf-8") == text(), "python -m tiltmeter.schema > docs/results.schema.json"


def test_every_field_says_what_it_is():
    schema = json.loads(text())
    for name, part in {"Document": schema, **schema["$defs"]}.items():
        for field, facts in part.get("properties", {}).items():
            assert facts.get("description"), f"{name}.{field} has no docstring"


def test_a_document_of_today_and_one_of_before_fit_the_schema(old):
    schema = json.loads(text())
    for written in (
        null(document([row(), row("shifted", "int4")]).as_json()),
        json.loads((OLD / "results.json").read_text()),
    ):
        assert not list(jsonschema.validators.validator_for(schema)(schema).iter_errors(written))


def test_a_run_folder_written_before_the_schema_is_read_value_for_value(old):
    written = json.loads((old / "results.json").read_text())
    assert covers(written, read_results(old))
    assert str(read_document(old).rows[-1].change.reason) == written["rows"][-1]["change"]["reason"]
    assert isinstance(read_document(old).rows[-1].change.reason, Message)  # so other languages can be told


def test_a_run_folder_written_before_the_schema_is_judged_anew_and_asked_by_every_command(old, tmp_path):
    (old / "results.json").unlink()
    assert [r.place for r in recomputed(old).rows] == [r.place for r in read_document(OLD).rows]
    for command in (["results"], ["results", "--items"], ["report", "--markdown"], ["report"], ["gate"], ["choose"]):
        result = CliRunner().invoke(app, [command[0], str(old), *command[1:]], catch_exceptions=False)
        assert result.exit_code in (0, 1, 3) and result.output.strip(), command


def change_json(path: Path, edit) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(edit(content)))


DAMAGE = {
    "document of schema 0": lambda run: change_json(
        run / "results.json", lambda d: {**d, "schema": "tiltmeter/results/0"}
    ),
    "document of schema 2": lambda run: change_json(
        run / "results.json", lambda d: {**d, "schema": "tiltmeter/results/2"}
    ),
    "run of schema 99": lambda run: change_json(run / "run.json", lambda d: {**d, "schema": "tiltmeter/run/99"}),
    "run without schema": lambda run: change_json(
        run / "run.json", lambda d: {k: v for k, v in d.items() if k != "schema"}
    ),
    "half a document": lambda run: (run / "results.json").write_bytes((run / "results.json").read_bytes()[:2000]),
    "half a run.json": lambda run: (run / "run.json").write_bytes((run / "run.json").read_bytes()[:200]),
    "empty document": lambda run: (run / "results.json").write_text(""),
    "a list": lambda run: (run / "results.json").write_text("[]"),
    "no text": lambda run: (run / "results.json").write_bytes(b"\xff\xfe\x00"),
    "rows that are none": lambda run: change_json(run / "results.json", lambda d: {**d, "rows": [1, 2]}),
    "a verdict there is not": lambda run: change_json(
        run / "results.json",
        lambda d: {
            **d,
            "rows": [{**r, "change": r["change"] and {**r["change"], "verdict": "fine"}} for r in d["rows"]],
        },
    ),
    "a score in words": lambda run: change_json(
        run / "results.json", lambda d: {**d, "rows": [{**r, "score": "high"} for r in d["rows"]]}
    ),
    "deep nesting": lambda run: (run / "results.json").write_text("[" * 100_000),
    "cells of another type": lambda run: change_json(run / "run.json", lambda d: {**d, "cells": {"a": 1}}),
    "a study with a stranger": lambda run: (
        (run / "results.json").unlink(),
        change_json(run / "run.json", lambda d: {**d, "study": {**d["study"], "colour": 1}}),
    ),
    "half a variant": lambda run: next((run / "variants").glob("*.json")).write_text('{"model": '),
    "failures of another type": lambda run: (
        (run / "results.json").unlink(),
        (run / "failures.json").write_text('{"a": 1}'),
    ),
    "half a cell": lambda run: (
        (run / "results.json").unlink(),
        next((run / "cells").glob("*/cell.json")).write_text('{"model": "m"}'),
    ),
    "a directory": lambda run: ((run / "results.json").unlink(), (run / "results.json").mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("command", ["results", "report", "gate", "choose"])
def test_what_does_not_fit_is_one_error_with_what_to_do_and_exit_code_two(old, damage, command, capsys):
    DAMAGE[damage](old)
    with pytest.raises(SystemExit) as ended:
        main([command, str(old)])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and "Fix:" in err and "Traceback" not in out + err
    assert len(err.strip().splitlines()) == 2, err  # one message, one fix


def test_an_outdated_document_is_known_by_its_contents_not_by_the_clock(old):
    import os

    fresh = recomputed(old)
    variant = next((old / "variants").glob("*.json"))
    change_json(variant, lambda facts: {**facts, "notes": ["added later"]})
    os.utime(variant, (0, 0))  # as after the clock was set back
    assert read_document(old).run.made_from != fresh.run.made_from
    assert any("added later" in v.notes for v in read_document(old).variants)


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        read_document(tmp_path)
