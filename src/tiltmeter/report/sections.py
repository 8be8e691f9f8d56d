"""What each section of the page says, as plain lists of printed words. Selection and formatting only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiltmeter.decisions.controls import is_control
from tiltmeter.messages import Message, Text, from_json
from tiltmeter.printed import NONE, compact, defined, digits, number, signed, size
from tiltmeter.registry import known
from tiltmeter.report.facts import Pairs, words_unit
from tiltmeter.report.summary import share
from tiltmeter.report.view import Panel, View
from tiltmeter.report.words import Told, foreign
from tiltmeter.schema import Flips, Proof, Row, Verdict
from tiltmeter.schema.place import is_base
from tiltmeter.schema.results import Missing

LISTED = 12  # entries of a stored list that are printed
PRINTED = 60  # comparisons whose numbers go on paper; more are left to `tiltmeter results`
METHODS = ("paired", "interval", "spread", "verdict", "floor", "groups", "flips", "kv")


def sure(view: View) -> Iterator[str]:
    """Sentences on how far the counts can be trusted."""
    rows = view.compared
    if not rows:
        return
    paired = [row.change.n_paired for row in rows if row.change and row.change.n_paired]
    if paired:
        low, high = f"{min(paired):,}", f"{max(paired):,}"
        yield view.words("sure.paired", n=low if low == high else view.words("share.range", low=low, high=high))
    controls = [row for row in rows if is_control(row.strategy, view.controls)]
    if controls:
        k = sum(bool(row.verdict and row.verdict.moved) for row in controls)
        yield view.words("sure.controls", k=k, n=len(controls))
    else:
        yield view.words("sure.no_controls")
    partial = sum(row.partial for row in rows)
    if partial:
        yield view.words("sure.partial", of=share(view, partial, len(rows)))


def choice(view: View) -> Told:
    """The stored choice in words, empty where the run holds none; a single model needs no name."""
    text = view.document.choice.text if view.document.choice else ""
    if isinstance(text, str):
        for model in view.models:
            text = text.replace(f"{model}: ", f"{view.short(model)}: " if len(view.models) > 1 else "")
    elif len(view.models) == 1:
        text = text.parts[0].value("what")
    told = view.told(text)
    return foreign(told[:1].upper() + told[1:], told.foreign)


def findings(view: View) -> list[list[Told]]:
    """The stored findings, each as its sentences."""
    found = view.document.findings
    return [[view.told(part) for part in (text.parts if isinstance(text, Message) else (text,))] for text in found]


def by_benchmark(view: View) -> list[tuple[str, list[Row]]]:
    return [(name, [row for row in view.rows if row.benchmark == name]) for name in view.benchmarks]


def flip_benchmarks(view: View, panel: Panel) -> list[str]:
    """The panel's benchmarks whose items have labels that can flip."""
    return [
        name
        for name in panel.benchmarks
        if any((row := view.cell(panel, strategy, name)) and _flips(row) for strategy in panel.strategies)
    ]


def flip_cells(view: View, panel: Panel) -> list[tuple[str, list[tuple[Row | None, Flips | None]]]]:
    """Strategy -> one (row, flips) per benchmark of `flip_benchmarks`; empty where nothing can flip."""
    names = flip_benchmarks(view, panel)
    return [
        (strategy, [(row, _flips(row)) for row in (view.cell(panel, strategy, name) for name in names)])
        for strategy in panel.strategies
        if names
    ]


def _flips(row: Row | None) -> Flips | None:
    return row.change.flips if row and row.change else None


def started(view: View) -> str:
    """When the run began, to the minute."""
    return (view.run.started or view.words("page.unknown"))[:16].replace("T", " ")


def proofs(view: View) -> list[dict[str, object]]:
    """Evidence that each strategy acted, one readable line and the facts behind it."""
    result: list[dict[str, object]] = []
    for variant in view.variants:
        evidence = variant.proof.evidence
        if is_base(variant.strategy) and not (variant.proof.summary or evidence):
            continue
        pairs = [(name, str(view.told(value))) for name, value in _evidence(variant.proof)]
        facts = {
            "dtype": variant.dtype,
            "device": variant.device,
            "weight_hash": variant.weight_hash,
            "settings": variant.settings,
        }
        pairs += [(name, _flat(value)) for name, value in facts.items() if value and name not in evidence]
        result.append(
            {
                "label": view.variant_name(variant),
                "facts": pairs,
                "notes": [view.told(note) for note in variant.notes],
                "summary": view.told(variant.proof.summary)
                if variant.proof.summary
                else Told(view.words("proof.none")),
            }
        )
    return result


def _evidence(proof: Proof) -> Iterator[tuple[str, Text]]:
    """The facts of a proof; those of a chain's steps under the step's name, summaries left out (they stand above)."""
    for name, value in proof.evidence.items():
        if name == "steps" and isinstance(value, dict):
            for step, facts in value.items():
                for fact, found in facts.items() if isinstance(facts, dict) else [("", facts)]:
                    if fact != "summary":
                        yield f"{step}: {fact}", _evident(found)
        else:
            yield name, _evident(value)


def _evident(value: Any) -> Text:
    """A fact as it is shown: a stored sentence as a message, all else as plain text."""
    found = from_json(value) if isinstance(value, dict) and value.keys() == {"text", "key", "values"} else value
    return found if isinstance(found, Message) else _flat(found)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        shown = list(value.items())[:LISTED]
        return ", ".join(f"{name}={_flat(inner)}" for name, inner in shown) + (" …" if len(value) > LISTED else "")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_flat, value[:LISTED])) + (" …" if len(value) > LISTED else "")
    return value if isinstance(value, str) else compact(value)


def _lines(value: Any) -> str:
    """One fact a line; notes stand with their benchmark."""
    return (
        "\n".join(f"{name}: {_flat(inner)}" for name, inner in value.items() if name != "notes")
        if isinstance(value, dict)
        else _flat(value)
    )


def published_rows(view: View) -> list[list[str]]:
    """Label, published and measured score, published and measured change; only rows with a published value."""
    return [
        [
            view.label(row),
            number(row.published, digits(row.unit)),
            view.score(row),
            signed(row.published_change, digits(row.unit)),
            f"{view.delta(row)} {view.ci(row)}".replace(NONE, "").strip() or NONE,
        ]
        for row in view.rows
        if defined(row.published)
    ]


def gaps(view: View) -> list[tuple[str, int, list[tuple[str, Told]]]]:
    """What the run does not say, by kind: failed, not exercised, no usable signal, undefined, partial."""
    failures = [
        (
            f"{view.short(failure.model)} · {failure.strategy} · {_flat(failure.cells)}",
            view.told(failure.reason),
        )
        for failure in view.run.failures
    ]

    def reasons(rows: list[Row]) -> list[tuple[str, Told]]:
        return [(view.label(row), view.reason(row) or view.told(row.reason)) for row in rows]

    absent = [(_missing_label(view, each), view.told(each.reason)) for each in view.run.missing]
    kinds = {
        "missing": absent,
        "failed": failures,
        "idle": reasons([row for row in view.compared if row.verdict is Verdict.NOT_EXERCISED]),
        "unusable": [(view.label(row), view.told(row.signal)) for row in view.rows if row.signal and not row.change]
        + reasons([row for row in view.compared if row.verdict is Verdict.NO_USABLE_SIGNAL]),
        "undefined": [(view.label(row), view.told(row.reason)) for row in view.rows if not defined(row.score)],
        "partial": [
            (view.label(row), Told(view.words("gaps.partial_asked", n=f"{row.n_items:,}")))
            for row in view.rows
            if row.partial
        ],
    }
    return [(kind, len(members), _merged(members)) for kind, members in kinds.items() if members]


def _missing_label(view: View, each: Missing) -> str:
    return f"{view.short(each.model)} · {view.strategy(each.strategy)} · {each.benchmark} · {view.asked(each)}"


def incomplete(view: View) -> str:
    """That cells of the study are missing, and the command that completes the run; empty where none is."""
    n = len(view.run.missing)
    return view.words("answer.incomplete", n=n, command=view.run.command) if n else ""


def earlier(view: View) -> str:
    """Which rows the present study did not ask for; empty where it asked for all."""
    rows = [row for row in view.rows if row.earlier]
    names = ", ".join(dict.fromkeys(f"{view.strategy(row.strategy)} · {row.benchmark}" for row in rows))
    return view.words("answer.earlier", n=len(rows), names=names) if rows else ""


def _merged(members: list[tuple[str, Told]]) -> list[tuple[str, Told]]:
    """Members with the same reason stand together."""
    by_reason: dict[str, list[str]] = {}
    reasons = {str(reason): reason for _, reason in members}
    for label, reason in members:
        by_reason.setdefault(str(reason), []).append(label)
    return [(_together(labels), reasons[text]) for text, labels in by_reason.items()]


def _together(labels: list[str]) -> str:
    """Labels that differ in one part only name the rest once: int8 · a; int8 · b -> int8 · a, b."""
    parts = [label.split(" · ") for label in labels]
    if len({len(part) for part in parts}) == 1:
        columns = [list(dict.fromkeys(column)) for column in zip(*parts)]
        if sum(len(column) > 1 for column in columns) == 1:
            return " · ".join(", ".join(column) for column in columns)
    return "; ".join(labels)


def about_benchmarks(view: View) -> list[dict[str, object]]:
    """Each benchmark's question, source, licence and known limits, from its class."""
    classes = known("benchmark")
    result = []
    for name in view.benchmarks:
        cls: Any = classes.get(name)
        row = next(row for row in view.rows if row.benchmark == name)
        result.append(
            {
                "name": name,
                "title": view.told(getattr(cls, "title", "")),
                "limits": view.told(cls.limits) if cls else Told(view.words("benchmarks.unknown")),
                "source": getattr(cls, "source", ""),
                "licence": getattr(cls, "licence", NONE),
                "items": f"{row.n_items:,}",
                "ideal": f"{row.ideal:g}",
                "unit": words_unit(view, row),
                "notes": _data_notes(view, name),
            }
        )
    return result


def _data_notes(view: View, benchmark: str) -> list[Told]:
    """What must be said wherever numbers from this copy of the data appear."""
    facts = view.run.data.get(benchmark)
    return [view.told(note) for note in facts.notes] if facts else []


def method_values(view: View) -> dict[str, object]:
    study = view.run.study
    correction = view.words.name("correction", study.get("correction", "holm"))
    return {"draws": f"{study.get('draws', 10_000):,}", "correction": correction}


def provenance(view: View) -> Iterator[tuple[str, Pairs]]:
    """Hashes, versions, hardware, seeds."""
    run, words = view.run, view.words
    yield (
        words("provenance.study"),
        [(name, _flat(value)) for name, value in run.study.items() if value not in (None, {}, [])],
    )
    yield words("provenance.versions"), [(name, str(value)) for name, value in run.versions.items()]
    yield (
        words("provenance.hardware"),
        [
            (name, size(value) if name.endswith("bytes") else _flat(value))
            for name, value in run.hardware.items()
            if value not in (None, [], "")
        ],
    )
    yield words("provenance.data"), [(name, _lines(facts.as_json())) for name, facts in run.data.items()]
    yield (
        words("provenance.weights"),
        [(view.variant_name(variant), _flat(variant.weight_hash)) for variant in view.variants if variant.weight_hash],
    )
    yield (
        words("provenance.run"),
        [
            (name, _flat(value))
            for name, value in (("path", run.path), ("started", run.started), ("batch_tokens", run.batch_tokens))
            if value
        ],
    )
