"""Statements: of the right artifact, accepted by in-toto's own validator, and false as soon as a byte is changed."""

from __future__ import annotations

import json
import shutil

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from tiltmeter.cli.evidence import run_evidence, run_reproduce, run_verify
from tiltmeter.decisions.policy import Policy
from tiltmeter.demo.command import BASE, DATA
from tiltmeter.errors import UserError
from tiltmeter.evidence.checklist import checklist
from tiltmeter.evidence.reproduce import reproduce
from tiltmeter.evidence.statement import digest_of, statements
from tiltmeter.models.folders import fingerprint_folder
from tiltmeter.pipeline import run
from tiltmeter.results.computed import document
from tiltmeter.runs.record import run_record
from tiltmeter.schema import Document, Variant
from tiltmeter.study import make_study


def make_run(out, **changed):
    study = {
        "models": (str(BASE),),
        "strategies": ("int8", "magnitude"),
        "benchmarks": ("crows-pairs",),
        "data": str(DATA),
        "text_quality": False,
        "batch_tokens": 4096,  # left to itself it follows free memory, and INT8's logits follow the batch
    } | changed
    run(make_study(**study), out)
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("evidence") / "run")


@pytest.fixture
def keys(tmp_path):
    private = Ed25519PrivateKey.generate()
    paths = tmp_path / "key.pem", tmp_path / "key.pub"
    paths[0].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    paths[1].write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return paths


def made(folder):
    return statements(document(folder), run_record(folder), Policy())


def test_there_is_one_statement_per_variant_and_in_totos_own_library_accepts_it(finished):
    found = made(finished)
    assert list(found) == ["00-int8", "01-magnitude"]
    for statement in found.values():
        message = ParseDict(statement, StatementMessage())
        Statement.copy_from_pb(message).validate()


def test_subjects_are_the_variants_recipe_and_the_bases_files(finished):
    int8, magnitude = made(finished).values()
    assert int8["subject"][0]["name"] == f"{BASE} under int8"
    assert int8["subject"][1]["digest"]["sha256"] == fingerprint_folder(BASE)
    assert int8["predicate"]["variant"]["digest_of"] == "recipe"
    assert int8["subject"][0]["digest"] != magnitude["subject"][0]["digest"]


def test_a_ready_made_checkpoint_is_named_by_its_own_files(tmp_path):
    folder = make_run(tmp_path / "run", strategies=(), checkpoints=(str(BASE.parent / "worse"),), limit=10)
    (statement,) = made(folder).values()
    assert statement["predicate"]["variant"]["digest_of"] == "checkpoint files"
    assert statement["subject"][0]["digest"]["sha256"] == fingerprint_folder(BASE.parent / "worse")


def test_a_partial_run_never_shows_that_a_result_was_reached(tmp_path):
    folder = make_run(tmp_path / "run", strategies=("int8",), limit=10)
    (statement,) = made(folder).values()
    reached = next(point for point in statement["predicate"]["checklist"] if "result was reached" in point["asks"])
    assert reached["shown"] != "yes"
    assert statement["predicate"]["gate"]["exit_status"] == 3


def shown(statement, asks):
    return next(point["shown"] for point in statement["predicate"]["checklist"] if asks in point["asks"])


def test_what_is_simulated_missing_or_made_in_memory_is_never_called_shown(finished, tmp_path):
    int8, magnitude = made(finished).values()
    assert shown(int8, "itself was evaluated") == "yes"  # bitsandbytes' own kernels answered
    assert shown(magnitude, "itself was evaluated") == "partly"  # zeros in dense weights
    assert shown(int8, "by digest") == "partly"  # of its recipe
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    done = next(path for path in copy.glob("cells/*int8*/done.json"))
    done.unlink()
    (statement,) = (each for name, each in made(copy).items() if name.endswith("int8"))
    assert [shown(statement, asks) for asks in ("suite", "result was reached")] == ["no", "no"]
    assert statement["predicate"]["gate"]["exit_status"] == 3


def test_a_served_model_is_named_by_what_its_server_reports_and_that_is_no_digest_of_the_artifact():
    variants = [
        Variant(model="m", strategy=name, weight_hash=h) for name, h in (("none", "a"), ("checkpoint=http://h/v1", "b"))
    ]
    document = Document(rows=(), variants=tuple(variants))
    assert digest_of(document, variants[0]).of == "checkpoint files"
    assert digest_of(document, variants[1]).of == "what its server reports"
    points = checklist([], variants[1], n_missing=0, digest_of="what its server reports")
    assert [point.shown for point in points] == ["no"] * 5


def test_another_calibration_draw_is_another_artifact():
    def of(seed):
        proof = {"summary": "s", "steps": {"awq": {"calibration": {"seed": 0, "digest": seed}}}}
        base = Variant(model="m", strategy="none", weight_hash="a")
        variant = Variant.model_validate({"model": "m", "strategy": "awq", "weight_hash": "a", "proof": proof})
        return digest_of(Document(rows=(), variants=(base, variant)), variant).sha256

    assert of("one") == of("one") != of("two")


def test_a_signed_statement_is_confirmed_by_key_and_run(finished, keys, tmp_path, capsys):
    assert run_evidence(finished, policy=None, key=keys[0], out=tmp_path / "out") == 0
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["00-int8.dsse.json", "01-magnitude.dsse.json"]
    assert run_verify(files, run=finished, policy=None, key=keys[1]) == 0
    assert capsys.readouterr().out.count("to the byte") == 2


def test_what_nobody_signed_or_no_run_gives_is_not_confirmed(finished, keys, tmp_path):
    run_evidence(finished, policy=None, key=None, out=tmp_path / "plain")
    plain = sorted((tmp_path / "plain").iterdir())
    assert run_verify(plain, run=finished, policy=None, key=None) == 3
    run_evidence(finished, policy=None, key=keys[0], out=tmp_path / "signed")
    signed = sorted((tmp_path / "signed").iterdir())
    assert run_verify(signed, run=None, policy=None, key=keys[1]) == 3
    assert run_verify(signed, run=finished, policy=None, key=None) == 3


def test_a_changed_number_is_found_with_and_without_a_key(finished, keys, tmp_path):
    run_evidence(finished, policy=None, key=None, out=tmp_path / "plain")
    path = tmp_path / "plain" / "00-int8.intoto.json"
    statement = json.loads(path.read_text())
    statement["predicate"]["rows"][0]["score"] += 0.01
    path.write_text(json.dumps(statement))
    assert run_verify([path], run=finished, policy=None, key=None) == 1

    run_evidence(finished, policy=None, key=keys[0], out=tmp_path / "signed")
    path = tmp_path / "signed" / "00-int8.dsse.json"
    envelope = json.loads(path.read_text())
    envelope["payload"] = ("A" if envelope["payload"][0] != "A" else "B") + envelope["payload"][1:]
    path.write_text(json.dumps(envelope))
    with pytest.raises(UserError, match="signature"):
        run_verify([path], run=finished, policy=None, key=keys[1])


def test_another_persons_key_confirms_nothing(finished, keys, tmp_path):
    run_evidence(finished, policy=None, key=keys[0], out=tmp_path / "signed")
    other = Ed25519PrivateKey.generate().public_key()
    (tmp_path / "other.pub").write_bytes(
        other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(UserError, match="not of this key"):
        run_verify([tmp_path / "signed" / "00-int8.dsse.json"], run=finished, policy=None, key=tmp_path / "other.pub")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"payloadType": 3}', '{"payloadType": "x", "payload": "!"}', "null"])
def test_what_is_no_statement_is_a_mistake_with_a_fix(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is no statement"):
        run_verify([path], run=None, policy=None, key=None)


def test_a_run_reproduces_itself_exactly(finished, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    rows, differences = reproduce(finished, copy)
    assert [row.answer for row in rows] == ["identical"] * 3
    assert not differences
    assert run_reproduce(finished, copy) == 0
    assert capsys.readouterr().out.count("identical") == 3


def test_another_model_under_the_same_name_is_not_reproduced(tmp_path):
    """`worse` has one group's log-odds lowered by 0.8: no chance explains that."""
    runs, place = [], tmp_path / "model"
    for name in ("base", "worse"):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(BASE.parent / name, place)
        out = tmp_path / name
        runs.append(make_run(out, models=(str(place),), strategies=(), benchmarks=("discrim-eval",)))
    rows, _ = reproduce(*runs)
    assert [row.answer for row in rows] == ["not reproduced"]
    assert rows[0].n_changed == rows[0].n_items == 900  # every P(yes) moved a little
    assert run_reproduce(*runs) == 1


def test_runs_without_a_common_row_cannot_be_held_to_each_other(finished, tmp_path):
    other = make_run(tmp_path / "run", strategies=(), benchmarks=("discrim-eval",), limit=45)
    with pytest.raises(UserError, match="no row in common"):
        reproduce(finished, other)


def test_a_row_that_only_one_run_has_cannot_be_confirmed(finished, tmp_path):
    other = make_run(tmp_path / "run", strategies=("int8",))
    rows, _ = reproduce(finished, other)
    assert {row.place.strategy: row.answer for row in rows} == {
        "none": "identical",
        "int8": "identical",
        "magnitude": "only in one run",
    }
    assert run_reproduce(finished, other) == 3
