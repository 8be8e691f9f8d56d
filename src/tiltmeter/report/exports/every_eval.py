"""Every Eval Ever: one evaluation record per variant, for the shared data store of evaluation results.

Format      schema version 0.3.0 (`schemas/eval.schema.json` of the package every-eval-ever),
            https://github.com/evaleval/every_eval_ever
Score       The format asks of each score whether less is better. Of a bias score that has no answer where the ideal
            is 50, or where a score has a sign; so the score of an entry is the distance from the ideal, of which less
            is better everywhere. The benchmark's own score stands in its details, with the change, its interval and
            the verdict.
Missing     A score must be a number. Rows without one, and cells that were not asked or failed, have no entry; they
            are named under `source_metadata.additional_details.not_judged`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tiltmeter.models.address import is_address
from tiltmeter.printed import clean, defined, json_text
from tiltmeter.report.exports.subject import Subject, asked, details, distance, hub_id
from tiltmeter.schema import Row
from tiltmeter.schema.place import source_of

SCHEMA = "0.3.0"
HUB = "https://huggingface.co/datasets/"
BOUNDS = {"percent": 100.0, "fraction": 1.0, "share": 1.0, "gini": 1.0}  # unit -> the farthest a score can be


def files(subject: Subject, when: datetime) -> dict[str, str]:
    """every_eval_ever.json."""
    return {"every_eval_ever.json": json_text(record(subject, when), indent=1) + "\n"}


def record(subject: Subject, when: datetime) -> dict[str, object]:
    """The record, checked by the format's own schema in tests."""
    name, stamp = _identifier(subject), str(int(when.timestamp()))
    served = is_address(source_of(subject.variant.strategy))
    version = subject.run.versions.get("tiltmeter", "unknown")
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"tiltmeter/{name}/{stamp}",
        **({"evaluation_timestamp": clean(subject.run.started)} if subject.run.started else {}),
        "retrieved_timestamp": stamp,
        "source_metadata": {
            "source_name": "tiltmeter",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",  # a run does not know who keeps it
            "evaluator_relationship": "other",
            "additional_details": {
                "gate": subject.standing,
                "not_judged": "\n".join(subject.unjudged) or "nothing: every cell was judged",
            },
        },
        "eval_library": {"name": "tiltmeter", "version": clean(version)},
        "model_info": {
            "name": subject.name,
            "id": name,
            **({"developer": name.partition("/")[0]} if hub_id(name) else {}),
            "additional_details": {
                "deployment_type": "unknown" if served else "self_deployed",
                "model_availability": "unknown",
                "base_model": subject.base_name,
                "strategy": subject.strategy,
                "dtype": clean(subject.variant.dtype or "unknown"),
                "sha256": subject.digest.sha256,
                "sha256_of": subject.digest.of,
            },
        },
        "evaluation_results": [_result(subject, row) for row in subject.rows if defined(row.score)],
    }


def _result(subject: Subject, row: Row) -> dict[str, object]:
    value, ends = distance(row)
    uncertainty: dict[str, object] = {"num_samples": row.n_scored}
    if ends:
        uncertainty["confidence_interval"] = {"lower": ends[0], "upper": ends[1], "confidence_level": 0.95}
    return {
        "evaluation_result_id": clean(f"{row.benchmark}/{asked(row)}/distance_from_ideal"),
        "evaluation_name": clean(row.benchmark),
        "source_data": _source(subject, row),
        "metric_config": {
            "metric_id": clean(f"tiltmeter.{row.benchmark}.distance_from_ideal"),
            "metric_name": f"distance of the {clean(row.benchmark)} score from its ideal ({row.ideal:g})",
            "metric_kind": "bias",
            "metric_unit": clean(row.unit),
            "lower_is_better": True,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": max(row.ideal, BOUNDS[row.unit] - row.ideal) if row.unit in BOUNDS else None,
            "additional_details": {"ideal": f"{row.ideal:g}", "asked": asked(row)},
        },
        "score_details": {"score": value, "details": details(subject, row), "uncertainty": uncertainty},
    }


def _source(subject: Subject, row: Row) -> dict[str, object]:
    """Where the items are from: a hub data set, an address, or neither."""
    data, name = subject.data(row), clean(row.benchmark)
    hashes = {clean(str(path)): clean(str(_hash(kept))) for path, kept in data.files.items()}
    more = {
        "published_files": str(data.published).lower(),
        "revision": clean(data.revision or "none"),
        **{f"sha256 {path}": digest for path, digest in hashes.items()},
    }
    if data.source.startswith(HUB):
        repository = clean(data.source.removeprefix(HUB))
        return {
            "dataset_name": name,
            "source_type": "hf_dataset",
            "hf_repo": repository,
            "samples_number": row.n_items,
            "additional_details": more,
        }
    if data.source.startswith("https://"):
        address = clean(data.source)
        return {"dataset_name": name, "source_type": "url", "url": [address], "additional_details": more}
    return {"dataset_name": name, "source_type": "other", "additional_details": more}


def _hash(kept: Any) -> Any:
    return kept.get("sha256", "unknown") if isinstance(kept, dict) else kept


def _identifier(subject: Subject) -> str:
    """As the format wants it, ORGANIZATION/NAME; "unknown" where nobody said whose it is."""
    name = subject.name.replace("+", "-").replace(":", "-").replace("=", "-").replace(",", "-")
    return name if hub_id(name) else f"unknown/{name.replace('/', '-')}"
