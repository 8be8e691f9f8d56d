"""What a study asks for, cell by cell, before anything is computed: the plan that what is there is held to."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tiltmeter.benchmarks.base import Benchmark
from tiltmeter.messages import Text, say
from tiltmeter.registry import build
from tiltmeter.schema import Failure, Place
from tiltmeter.schema.results import Missing
from tiltmeter.study import Study

SWITCHES = {  # settings of a study that a command can give
    "format": "--format",
    "decoding": "--decoding",
    "samples": "--samples",
    "limit": "--limit",
    "orders": "--orders",
    "seed": "--seed",
    "data": "--data",
    "device": "--device",
    "dtype": "--dtype",
    "backend": "--backend",
    "tokenizer": "--tokenizer",
    "batch_tokens": "--batch-tokens",
    "budget": "--budget",
    "calibration": "--calibration",
    "calibration_seeds": "--calibration-seeds",
    "text": "--text",
}
IN_A_FILE = ("limits", "margins", "correction", "draws", "text_quality")  # and those that only a study file can


def ways(
    study: Study, benchmark: Benchmark
) -> Iterator[tuple[Literal["plain", "chat"], Literal["greedy", "sampling"]]]:
    """(format, decoding) in which a study asks a benchmark. What generates nothing is asked once, as greedy."""
    for text_format in study.formats:
        if text_format not in benchmark.formats:
            continue
        for decoding in study.decodings:
            if decoding in benchmark.decodings:
                yield text_format, decoding
            elif decoding != "sampling" or "greedy" not in study.decodings:
                yield text_format, "greedy"


def planned(study: Study) -> list[Place]:
    """Every cell of a study. Raises UserError for a strategy or benchmark that is not installed here."""
    benchmarks = [build("benchmark", name) for name in study.benchmark_names()]
    return [
        Place(spec.model, spec.strategy, text_format, decoding, benchmark.name)
        for spec in study.variants()
        for benchmark in benchmarks
        for text_format, decoding in ways(study, benchmark)
    ]


def missing(study: Study, finished: set[Place], started: set[Place], failures: tuple[Failure, ...]) -> list[Missing]:
    """The cells of the plan that are not finished, each with why."""
    return [
        Missing(
            model=place.model,
            strategy=place.strategy,
            format=place.format,
            decoding=place.decoding,
            benchmark=place.benchmark,
            reason=_why(place, started, failures),
        )
        for place in planned(study)
        if place not in finished
    ]


def _why(place: Place, started: set[Place], failures: tuple[Failure, ...]) -> Text:
    failed = next((failure for failure in failures if failure.concerns(place)), None)
    if failed:
        return say("missing.failed", reason=failed.reason)
    return say("missing.not_finished" if place in started else "missing.not_begun")


def command(study: Study, run: Path) -> str:
    """What to type to complete a run: the command that began it. Finished cells are not run again."""
    defaults = Study(models=("m",))
    by_file = [name for name in IN_A_FILE if getattr(study, name) != getattr(defaults, name)]
    if by_file:
        return (
            f"tiltmeter run STUDY.yaml --out {shlex.quote(str(run))}   (the study file that sets {', '.join(by_file)})"
        )
    verb = ["compare", *study.models, *study.checkpoints] if study.checkpoints else ["run", *study.models]
    words = ["tiltmeter", *verb]
    for flag, names in (("-s", study.strategies), ("-b", study.benchmarks)):
        words += [word for name in names for word in (flag, name)]
    for name, switch in SWITCHES.items():
        if getattr(study, name) != getattr(defaults, name):
            words += [switch, str(getattr(study, name))]
    words += ["--robust"] if study.robust else []
    words += [] if study.fidelity else ["--no-fidelity"]
    return shlex.join([*words, "--out", str(run)])
