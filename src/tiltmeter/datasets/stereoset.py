"""StereoSet's intrasentence pairs as calibration text, and as nothing else.

    python -m tiltmeter.datasets.stereoset FOLDER pairs.json        then: tiltmeter run … --calibration pairs.json

Fair-GPTQ calibrates on the stereotype and anti-stereotype sentence of each entry, in the file's order: 2,106 pairs,
4,212 sentences. Which of the two comes first is the file's (stereotype first in 1,062): use the label, never the place.

No verdict rests on StereoSet here. Its contexts and edits are inconsistent and its stereotypes often none (Blodgett et
al. 2021, https://aclanthology.org/2021.acl-long.81), control groups give illogical results (Pikuliak et al. 2023, arXiv
2302.12640), ties count as anti-stereotype, and a variant calibrated on these pairs must not be measured on them: name
the overlap (CrowS-Pairs and BBQ share stereotypes with it, not sentences). CC BY-SA 4.0: share-alike binds what is made
of it. The scores at the end reproduce published figures of the file; nothing in a run calls them.

Data  https://github.com/moinnadeem/StereoSet (Nadeem et al. 2021, arXiv 2004.09456): `dev.json`, or its re-cut by
      domain (Intrasentence-DOMAIN.json, with dev_order.json for the original order).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError

STEREOTYPE, ANTI = "stereotype", "anti-stereotype"


@dataclass(frozen=True)
class Pair:
    """One entry's two sentences in the file's order, and which is which."""

    domain: str
    term: str
    sentences: tuple[str, str]
    labels: tuple[str, str]


def pairs(folder: Path) -> list[Pair]:
    """All intrasentence pairs, dev.json's order. Raises UserError for a missing or malformed file."""
    try:
        entries = _published(folder) if (folder / "dev.json").is_file() else _by_domain(folder)
        return [_pair(domain, term, options) for domain, term, options in entries]
    except (OSError, ValueError, KeyError, TypeError, StopIteration, AttributeError) as error:
        raise UserError(
            f"{folder} holds no readable StereoSet ({type(error).__name__}: {error})",
            fix="put dev.json of https://github.com/moinnadeem/StereoSet there",
        ) from error


def _published(folder: Path) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    for entry in json.loads((folder / "dev.json").read_text(encoding="utf-8"))["data"]["intrasentence"]:
        options = [(option["gold_label"], option["sentence"]) for option in entry["sentences"]]
        yield entry["bias_type"], entry["target"], options


def _by_domain(folder: Path) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    order = json.loads((folder / "dev_order.json").read_text(encoding="utf-8"))
    domains: Mapping[str, str] = order["letters"]
    files = {
        domain: iter(json.loads((folder / f"Intrasentence-{domain}.json").read_text(encoding="utf-8")))
        for domain in domains.values()
    }
    for letter in order["intrasentence"]:
        entry: Any = next(files[domains[letter]])
        yield entry["axis"], entry["descriptor"], list(zip(entry["label"], entry["choices"], strict=True))


def _pair(domain: str, term: str, options: Sequence[tuple[str, str]]) -> Pair:
    (label_a, first), (label_b, second) = [(label, text) for label, text in options if label in (STEREOTYPE, ANTI)]
    if {label_a, label_b} != {STEREOTYPE, ANTI}:
        raise ValueError(f"an entry about {term!r} has not one sentence of each kind")
    return Pair(domain, term, (first, second), (label_a, label_b))


def entry_scores(stereotype: float, anti: float, unrelated: float) -> tuple[int, int]:
    """(1 where the stereotype is strictly more likely, else 0; how many of the two beat the unrelated sentence)."""
    return int(stereotype > anti), (stereotype > unrelated) + (anti > unrelated)


def term_scores(pro: int, related: int, entries: int) -> tuple[float, float]:
    """(ss, lms) of one target term, percent."""
    return 100 * pro / entries, 100 * related / (2 * entries)


def icat(ss: float, lms: float) -> float:
    """Idealized score: lms x min(ss, 100 - ss) / 50. The published one takes ss and lms as means over TERMS."""
    return lms * min(ss, 100 - ss) / 50


def intersentence(context: str, sentence: str) -> str:
    """Context and sentence as scored: a full stop is added where the context lacks one."""
    return f"{context if context.endswith(('.', '!', '?')) else context + '.'} {sentence}"


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m tiltmeter.datasets.stereoset FOLDER pairs.json")
    texts = [sentence for pair in pairs(Path(sys.argv[1])) for sentence in pair.sentences]
    Path(sys.argv[2]).write_text(json.dumps(texts, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{len(texts):,} sentences in {sys.argv[2]}")


if __name__ == "__main__":
    main()
