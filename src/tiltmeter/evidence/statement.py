"""One statement per variant: what was compared with what, made how, measured with which result.

Layout      in-toto Statement v1 (https://github.com/in-toto/attestation): subjects with SHA-256 digests, a predicate.
Subjects    The base and the variant. A ready-made checkpoint is named by the digest of its files. A variant that was
            made in memory has no file of its own: its digest is that of its recipe (base's weights, strategy with all
            settings, dtype, library versions, and the calibration text), and the predicate says so.
Predicate   tool, versions, hardware, datasets with hashes, seeds; the rows of the results document; the gate's answer
            under a named policy; a checklist of the one published control that asks for this (`checklist`).
Departure   Times and paths of this machine stay out, so that two runs of the same thing give the same statement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tiltmeter.decisions.gate import Check, Gate, lacking, variant_checks
from tiltmeter.decisions.policy import Policy
from tiltmeter.evidence.checklist import checklist
from tiltmeter.schema import Document, Row, RunRecord, Variant

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "tag:tiltmeter,2026:evidence/v1"


@dataclass(frozen=True)
class Digest:
    """What a SHA-256 is of.

    Attributes:
        of: "checkpoint files" or "recipe".
    """

    sha256: str
    of: str


def statements(
    document: Document, record: RunRecord, policy: Policy, policy_sha256: str | None = None
) -> dict[str, dict[str, Any]]:
    """File name without ending -> in-toto statement, one per variant that is no base, in the document's order.

    policy_sha256: digest of the policy's file; None for the default policy.
    """
    made = [variant for variant in document.variants if variant.strategy != "none"]
    found = {}
    for number, variant in enumerate(made):
        rows = [row for row in document.rows if (row.model, row.strategy) == (variant.model, variant.strategy)]
        base = lacking(document, variant.model, "none")
        judged = Gate((*base, *variant_checks(document, policy, variant.model, variant.strategy)))
        found[_file_name(number, variant)] = _statement(document, record, variant, rows, judged, policy_sha256)
    return found


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: the bytes that digests and signatures are over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(document: Document, variant: Variant) -> Digest:
    """The digest of a variant: its files' where it is a checkpoint of its own, else its recipe's."""
    base = document.variant(variant.model, "none")
    own = variant.weight_hash
    if own and (variant is base or base is None or own != base.weight_hash):
        return Digest(own, "checkpoint files")
    recipe = {
        "base": base.weight_hash if base else None,
        "strategy": variant.strategy,
        "settings": variant.settings,
        "dtype": variant.dtype,
        "versions": document.run.versions,
    }
    return Digest(hashlib.sha256(canonical(recipe)).hexdigest(), "recipe")


def _statement(
    document: Document,
    record: RunRecord,
    variant: Variant,
    rows: Sequence[Row],
    judged: Gate,
    policy_sha256: str | None,
) -> dict[str, Any]:
    base = document.variant(variant.model, "none")
    subjects = [(f"{variant.model} under {variant.strategy}", digest_of(document, variant))]
    if base:
        subjects.append((variant.model, digest_of(document, base)))
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
        "checklist": [asdict(point) for point in checklist(rows, variant)],
    }
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest.sha256}} for name, digest in subjects],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }


def _result(row: Row) -> dict[str, Any]:
    kept = row.as_json()
    del kept["seconds"]  # of this machine on that day
    return kept


def _check(check: Check) -> dict[str, str]:
    return {"cell": str(check.cell), "rule": check.rule, "status": check.status, "message": str(check.message)}


def _file_name(number: int, variant: Variant) -> str:
    """A file name that no strategy's name can lead astray."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in variant.strategy)
    return f"{number:02d}-{plain[:80].strip('.-') or 'variant'}"
