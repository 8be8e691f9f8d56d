"""CycloneDX: one bill of materials per variant, with a model card.

Format      CycloneDX 1.6 JSON, `modelCard.quantitativeAnalysis.performanceMetrics`, https://cyclonedx.org/docs/1.6/json
Metrics     Per row: the score, the paired change with its 95 % interval, and the verdict; per demographic group
            (`slice` is attribute=group): score, and change with its interval. All values are texts, as the format asks.
Component   The variant, with the SHA-256 of its files where it is a checkpoint of its own; a variant that was made in
            memory has the digest of its recipe among the properties. Its base is an ancestor in `pedigree`.
Missing     A number that is undefined has no metric; the verdict beside it says why. Cells that are not there, and all
            that was not judged, stand in `considerations.technicalLimitations`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime

from tiltmeter.evidence.statement import Digest
from tiltmeter.printed import clean, defined, json_text
from tiltmeter.report.exports.subject import Subject, asked, details, figure, slices
from tiltmeter.schema.base import Ends

NO_CERTIFICATE = "Bias benchmarks measure what their authors chose; an `equivalent` is no certificate of fairness."


def files(subject: Subject, when: datetime) -> dict[str, str]:
    """bom.cdx.json, the same for the same run: its time is the run's, its serial number that of its content."""
    return {"bom.cdx.json": json_text(bom(subject), indent=1) + "\n"}


def bom(subject: Subject) -> dict[str, object]:
    """The bill of materials, checked by the format's own schema in tests."""
    tool = {"type": "application", "name": "tiltmeter", "version": clean(subject.run.versions.get("tiltmeter", ""))}
    content = {
        "metadata": {
            **({"timestamp": clean(subject.run.started)} if subject.run.started else {}),
            "tools": {"components": [tool]},
        },
        "components": [_component(subject)],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **content,
    }


def _component(subject: Subject) -> dict[str, object]:
    base = {"type": "machine-learning-model", "name": subject.base_name, **_hashes(subject.base_digest)}
    return {
        "type": "machine-learning-model",
        "bom-ref": "variant",
        "name": subject.name,
        **_hashes(subject.digest),
        "pedigree": {"ancestors": [base]},
        "modelCard": {
            "modelParameters": {"datasets": list(_datasets(subject))},
            "quantitativeAnalysis": {"performanceMetrics": [*_of_rows(subject), *_of_groups(subject)]},
            "considerations": {"technicalLimitations": [*subject.unjudged, NO_CERTIFICATE]},
        },
        "properties": [
            _property("tiltmeter:strategy", subject.strategy),
            _property("tiltmeter:gate", subject.standing),
            _property(f"tiltmeter:sha256 of {subject.digest.of}", subject.digest.sha256),
            _property("tiltmeter:proof", subject.public(subject.variant.proof.summary or "none was kept")),
            *(
                _property(f"tiltmeter:{row.benchmark}:{asked(row)}:{name}", text)
                for row in subject.rows
                for name, text in details(subject, row).items()
            ),
        ],
    }


def _hashes(digest: Digest | None) -> dict[str, object]:
    """Only of files: a recipe's digest is none of anything that could be hashed again."""
    if digest is None or digest.of != "checkpoint files" or len(digest.sha256) != 64:
        return {}
    return {"hashes": [{"alg": "SHA-256", "content": digest.sha256}]}


def _datasets(subject: Subject) -> Iterator[dict[str, object]]:
    for name in dict.fromkeys(row.benchmark for row in subject.rows):
        data = subject.run.data.get(name)
        source = data.source if data and data.source.startswith("https://") else ""
        yield {
            "type": "dataset",
            "name": clean(name),
            **({"contents": {"url": clean(source)}} if source else {}),
            "description": "evaluation, the published files"
            if data and data.published
            else "evaluation, not the published files",
        }


def _of_rows(subject: Subject) -> Iterator[dict[str, object]]:
    for row in subject.rows:
        what = f"{row.benchmark}, {asked(row)}"
        if defined(row.score):
            yield _metric(f"{what}: score ({row.unit}, ideal {row.ideal:g})", figure(row.score), ci=row.ci)
        if row.change is None:
            yield _metric(f"{what}: verdict", "none: not compared with the base")
            continue
        if defined(row.change.delta):
            yield _metric(f"{what}: change against the base ({row.unit})", figure(row.change.delta), ci=row.change.ci)
        yield _metric(f"{what}: verdict", str(row.change.verdict))


def _of_groups(subject: Subject) -> Iterator[dict[str, object]]:
    for row, group, score, delta, ci in slices(subject.rows):
        what = f"{row.benchmark}, {asked(row)}"
        if defined(score):
            yield _metric(f"{what}: score of the group", figure(score), group)
        if defined(delta):
            yield _metric(f"{what}: change of the group against the base", figure(delta), group, ci)


def _metric(kind: str, value: str, group: str = "", ci: Ends | None = None) -> dict[str, object]:
    found: dict[str, object] = {"type": clean(kind), "value": clean(value)}
    if group:
        found["slice"] = group
    if ci and all(map(defined, ci)):
        found["confidenceInterval"] = {"lowerBound": figure(ci[0]), "upperBound": figure(ci[1])}
    return found


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": clean(name), "value": clean(value)}
