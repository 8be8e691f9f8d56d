"""One statement per variant: what was compared with what, made how, measured with which result.

Layout      in-toto Statement v1 (https://github.com/in-toto/attestation): subjects with SHA-256 digests, a predicate.
Subjects    The base and the variant. A checkpoint is named by the digest of its files; a served model, whose files
            nobody here has seen, by what its server reports. A variant that was made in memory has no file of its own:
            its digest is that of its recipe (base's weights, strategy with all settings, dtype, library versions, and
            what was drawn from the calibration text). The predicate says which.
Predicate   tool, versions, hardware, datasets with hashes, seeds; the rows of the results document; the gate's answer
            under a named policy; a checklist of the one published control that asks for this (`checklist`).
Departure   Times stay out, so that the same answers give the same statement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tiltmeter.decisions.gate import Check, Gate, lacking, variant_checks
from tiltmeter.decisions.policy import Policy
from tiltmeter.evidence.checklist import checklist
from tiltmeter.models.address import is_address
from tiltmeter.schema import Document, Row, RunRecord, Variant
from tiltmeter.schema.place import NONE, is_base, source_of

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "tag:tiltmeter,2026:evidence/v1"


@dataclass(frozen=True)
class Digest:
    """What a SHA-256 is of.

    Attributes:
        of: "checkpoint files", "recipe" or "what its server reports".
    """

    sha256: str
    of: str


def statements(
    document: Document, record: RunRecord, policy: Policy, policy_sha256: str | None = None
) -> dict[str, dict[str, object]]:
    """File name without ending -> in-toto statement, one per variant that the study asked for, answered or not.

    policy_sha256: digest of the policy's file; None for the default policy.
    """
    asked = [(model, strategy) for model, strategy in document.asked if not is_base(strategy)]
    made = [document.variant(*each) or Variant(model=each[0], strategy=each[1]) for each in asked]
    found = {}
    for number, variant in enumerate(made):
        rows = [row for row in document.rows if (row.model, row.strategy) == (variant.model, variant.strategy)]
        base = lacking(document, variant.model, NONE)
        judged = Gate((*base, *variant_checks(document, policy, variant.model, variant.strategy)))
        found[file_name(number, variant)] = _statement(document, record, variant, rows, judged, policy_sha256)
    return found


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: the bytes that digests and signatures are over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(document: Document, variant: Variant) -> Digest:
    """The digest of a variant: its files' where it is a checkpoint of its own, else its recipe's."""
    base = document.variant(variant.model, NONE)
    own = variant.weight_hash
    if own and (variant is base or base is None or own != base.weight_hash):
        served = is_address(variant.model if variant is base else source_of(variant.strategy))
        return Digest(own, "what its server reports" if served else "checkpoint files")
    recipe = {
        "base": base.weight_hash if base else None,
        "strategy": variant.strategy,
        "settings": variant.settings,
        "dtype": variant.dtype,
        "versions": document.run.versions,
        "calibration": list(_calibrations(variant.proof.evidence)),
    }
    return Digest(hashlib.sha256(canonical(recipe)).hexdigest(), "recipe")


def _calibrations(evidence: Any) -> Iterator[Any]:
    """Every record of what was drawn from a calibration text (source, samples, length, seed, digest), in order."""
    if isinstance(evidence, Mapping):
        for name, value in evidence.items():
            if name == "calibration" and value:
                yield value
            else:
                yield from _calibrations(value)


def _statement(
    document: Document,
    record: RunRecord,
    variant: Variant,
    rows: Sequence[Row],
    judged: Gate,
    policy_sha256: str | None,
) -> dict[str, object]:
    base = document.variant(variant.model, NONE)
    subjects = [(f"{variant.model} under {variant.strategy}", digest_of(document, variant))]
    if base:
        subjects.append((variant.model, digest_of(document, base)))
    absent = [m for m in document.run.missing if (m.model, m.strategy) == (variant.model, variant.strategy)]
    points = checklist(rows, variant, n_missing=len(absent), digest_of=subjects[0][1].of)
    predicate = {
        "tool": {"name": "tiltmeter", "version": document.run.versions.get("tiltmeter")},
        "variant": {
            "strategy": variant.strategy,
            "settings": variant.settings,
            "dtype": variant.dtype,
            "device": variant.device,
            "proof": str(variant.proof.summary or ""),
            "digest_of": subjects[0][1].of,
        },
        "base": {"name": variant.model, "digest_of": subjects[1][1].of if base else None},
        "versions": document.run.versions,
        "hardware": document.run.hardware,
        "datasets": {name: facts.files for name, facts in record.data.items()},
        "study": record.study,
        "gate": {
            "policy_sha256": policy_sha256,
            "exit_status": judged.exit_code,
            "checks": [_check(check) for check in judged.checks],
        },
        "rows": [_result(row) for row in rows],
        "checklist": [asdict(point) for point in points],
    }
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest.sha256}} for name, digest in subjects],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }


def _result(row: Row) -> dict[str, object]:
    kept = row.as_json()
    del kept["seconds"]  # of this machine on that day
    return kept


def _check(check: Check) -> dict[str, str]:
    return {"cell": str(check.cell), "rule": check.rule, "status": check.status, "message": str(check.message)}


def file_name(number: int, variant: Variant) -> str:
    """A file name that no strategy's name can lead astray."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in variant.strategy)
    return f"{number:02d}-{plain[:80].strip('.-') or 'variant'}"
