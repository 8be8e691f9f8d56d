"""What each section of the page says, as plain lists of printed words. Selection and formatting only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiltmeter.report.view import Panel, Row, View
from tiltmeter.report.words import NONE, compact, defined, digits, interval, number, p_value, signed, size

METHODS = ("paired", "interval", "spread", "verdict", "floor", "groups", "flips", "kv")
Pairs = list[tuple[str, str]]


def sure(view: View) -> Iterator[str]:
    """Sentences on how far the counts can be trusted."""
    rows = view.compared
    if not rows:
        return
    paired = [row["change"]["n_paired"] for row in rows if row["change"].get("n_paired")]
    if paired:
        yield view.words("sure.paired", low=f"{min(paired):,}", high=f"{max(paired):,}")
    controls = [row for row in rows if view.is_control(row["strategy"])]
    if controls:
        k = sum(view.verdict(row) in ("worse", "better") for row in controls)
        yield view.words("sure.controls", k=k, n=len(controls))
    else:
        yield view.words("sure.no_controls")
    partial = sum(bool(row["partial"]) for row in rows)
    if partial:
        yield view.words("sure.partial", k=partial, n=len(rows))


def choice(view: View) -> str:
    """The stored choice in words, empty where the run holds none."""
    found = view.document.get("choice")
    text = str((found or {}).get("text") or "")
    for model in view.models:
        text = text.replace(f"{model}: ", f"{view.short(model)}: " if len(view.models) > 1 else "")
    return text[:1].upper() + text[1:]


def findings(view: View) -> list[str]:
    found = view.document.get("findings") or []
    return [text for one in found if (text := one if isinstance(one, str) else str(one.get("text") or ""))]


def by_benchmark(view: View) -> list[tuple[str, list[Row]]]:
    return [(name, [row for row in view.rows if row["benchmark"] == name]) for name in view.benchmarks]


def row_facts(view: View, row: Row) -> Pairs:
    """Every number of a row with its name."""
    words, places, unit = view.words, digits(row["unit"]), words_unit(view, row)
    facts: Pairs = [
        (words("facts.score"), f"{view.score(row)} {unit}"),
        (words("facts.ideal"), number(row["ideal"], 0 if float(row["ideal"]).is_integer() else places)),
        (words("facts.scored"), f"{row['n_scored']:,} / {row['n_items']:,}"),
    ]
    if row.get("ci"):
        facts.append((words("facts.ci"), interval(row["ci"], places).replace("+", "")))
    if row["n_samples"] > 1:
        facts.append((words("facts.samples"), str(row["n_samples"])))
    facts += [(words("facts.unscored", reason=reason), f"{count:,}") for reason, count in row["unscored"].items()]
    change = row.get("change")
    if change:
        base = view.base_of(row)
        facts += [
            (words("facts.base"), f"{view.score(base)} {unit}" if base else NONE),
            (words("facts.change"), f"{view.delta(row)} {view.unit(row)}"),
            (words("facts.change_ci"), view.ci(row)),
        ]
        if row["ideal"] and defined(change.get("distance_delta")):
            facts.append(
                (
                    words("facts.distance"),
                    f"{signed(change['distance_delta'], places)} {interval(change.get('distance_ci'), places)}",
                )
            )
        facts += _spread_facts(view, change)
        facts += [
            (words("facts.p"), p_value(change.get("p"))),
            (words("facts.p_adjusted"), p_value(change.get("p_adjusted"))),
            (words("facts.margin"), f"±{number(change.get('margin'), 2)}"),
            (words("facts.mde"), number(change.get("mde"), places)),
            (
                words("facts.noise"),
                number(change["noise"], places) if defined(change.get("noise")) else words("facts.not_measured"),
            ),
            (words("facts.paired"), f"{change.get('n_paired') or 0:,}"),
        ]
        flips = change.get("flips")
        if flips:
            facts.append(
                (
                    words("facts.flips"),
                    words(
                        "facts.flips_value",
                        n=flips["n"],
                        of=flips["of"],
                        toward=flips["toward_bias"],
                        away=flips["away_from_bias"],
                    ),
                )
            )
        unanswered = change.get("unanswered")
        if unanswered:
            facts.append((words("facts.unanswered"), f"{number(unanswered['base'])} → {number(unanswered['variant'])}"))
    facts += [(words.name("extra", name), compact(value)) for name, value in row.get("extra", {}).items()]
    if row.get("seconds"):
        facts.append(
            (
                words("facts.cost"),
                words("facts.cost_value", seconds=compact(float(row["seconds"])), tokens=f"{row.get('tokens') or 0:,}"),
            )
        )
    return facts


def _spread_facts(view: View, change: dict[str, Any]) -> Pairs:
    """Noise-corrected spreads between groups: both square roots and the change, the companion of the verdict first."""
    spreads = change.get("spreads") or (
        [{"name": change["companion"], "delta": change.get("companion_delta"), "ci": change.get("companion_ci")}]
        if change.get("companion")
        else []
    )
    facts: Pairs = []
    for spread in spreads:
        name = view.words.name("companion", spread["name"])
        if defined(spread.get("base")):
            facts.append(
                (
                    name,
                    f"{number(spread['base'])} → {number(spread.get('variant'))} "
                    f"{view.words.name('unit', spread.get('unit') or '')}",
                )
            )
        facts.append(
            (
                view.words("facts.companion", name=name),
                f"{signed(spread.get('delta'), 4)} {interval(spread.get('ci'), 4)}",
            )
        )
    return facts


def words_unit(view: View, row: Row) -> str:
    return "%" if row["unit"] == "percent" else view.words.name("unit", row["unit"])


def group_meaning(view: View, row: Row) -> str:
    """Unit of a group's change in a benchmark, in a few words."""
    key = f"groups.unit.{row['benchmark']}"
    return view.words(key) if view.words.has(key) else view.unit(row)


def flip_benchmarks(view: View, panel: Panel) -> list[str]:
    """The panel's benchmarks whose items have labels that can flip."""
    return [
        name
        for name in panel.benchmarks
        if any((row := view.cell(panel, strategy, name)) and _flips(row) for strategy in panel.strategies)
    ]


def flip_cells(view: View, panel: Panel) -> list[tuple[str, list[tuple[Row | None, dict[str, Any] | None]]]]:
    """Strategy -> one (row, flips) per benchmark of `flip_benchmarks`; empty where nothing can flip."""
    names = flip_benchmarks(view, panel)
    return [
        (strategy, [(row, _flips(row)) for row in (view.cell(panel, strategy, name) for name in names)])
        for strategy in panel.strategies
        if names
    ]


def _flips(row: Row | None) -> dict[str, Any] | None:
    return (row.get("change") or {}).get("flips") if row else None


def started(view: View) -> str:
    """When the run began, to the minute."""
    return str(view.run.get("started") or view.words("page.unknown"))[:16].replace("T", " ")


def measured(view: View, field: str) -> dict[str, Any]:
    """A table of what was measured per variant: {"names": columns, "rows": [(variant, cells)]}."""
    facts = [
        (
            variant,
            {
                name: value
                for name, value in (variant.get(field) or {}).items()
                if isinstance(value, (int, float)) or value is None
            },
        )
        for variant in view.variants
    ]
    names = list(dict.fromkeys(name for _, values in facts for name, value in values.items() if value is not None))
    rows = [
        (variant_label(view, variant), [_cell(name, values.get(name)) for name in names]) for variant, values in facts
    ]
    return {"names": names, "rows": rows}


SPEED_COLUMNS = (
    "prefill_tokens_per_s",
    "prefill_speedup",
    "decode_tokens_per_s",
    "decode_speedup",
    "memory_bytes",
    "disk_bytes",
    "peak_bytes",
)


def speeds(view: View) -> dict[str, Any]:
    """Measured speed and memory per variant, in the form of `measured`; a ratio is printed with its range of rounds."""
    facts = [(variant, variant.get("speed") or {}) for variant in view.variants]
    names = [name for name in SPEED_COLUMNS if any(values.get(name) is not None for _, values in facts)]
    rows = [
        (variant_label(view, variant), [_speed_cell(name, values.get(name)) for name in names])
        for variant, values in facts
    ]
    notes = [(variant_label(view, variant), values["note"]) for variant, values in facts if values.get("note")]
    return {"names": names, "rows": rows, "notes": notes}


def _speed_cell(name: str, value: Any) -> str:
    if isinstance(value, dict):
        low, high = value.get("low", value.get("smallest")), value.get("high", value.get("largest"))
        spread = f" ({low:.2f}–{high:.2f})" if defined(low) and defined(high) else ""
        return f"{number(value.get('median'), 2)}×{spread}"
    return _cell(name, float(value) if isinstance(value, int) and not name.endswith("bytes") else value)


def answer_quality(view: View) -> dict[str, Any]:
    """Per variant and generating cell: how its own answers read. The same form as `measured`."""
    found = [
        (f"{variant_label(view, variant)} · {cell}", facts)
        for variant in view.variants
        for cell, facts in ((variant.get("text_quality") or {}).get("answers") or {}).items()
        if facts.get("n", 1)
    ]
    names = list(dict.fromkeys(name for _, facts in found for name, value in facts.items() if defined(value)))
    return {
        "names": names,
        "rows": [(label, [_cell(name, facts.get(name)) for name in names]) for label, facts in found],
    }


def _cell(name: str, value: Any) -> str:
    return size(value) if name.endswith("bytes") else compact(value)


def variant_label(view: View, variant: dict[str, Any]) -> str:
    name = view.strategy(variant["strategy"])
    return f"{view.short(variant['model'])} · {name}" if len(view.models) > 1 else name


def proofs(view: View) -> list[dict[str, Any]]:
    """Evidence that each strategy acted, one readable line and the facts behind it."""
    result = []
    for variant in view.variants:
        proof = variant.get("proof") or {}
        if variant["strategy"] == "none" and not proof:
            continue
        pairs = [(name, _flat(value)) for name, value in proof.items() if name != "summary"]
        pairs += [
            (name, _flat(variant[name])) for name in ("dtype", "device", "weight_hash", "settings") if variant.get(name)
        ]
        result.append(
            {
                "label": variant_label(view, variant),
                "facts": pairs,
                "notes": variant.get("notes") or [],
                "summary": proof.get("summary") or view.words("proof.none"),
            }
        )
    return result


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_flat(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_flat, value[:12])) + (" …" if len(value) > 12 else "")
    return value if isinstance(value, str) else compact(value)


def published_rows(view: View) -> list[list[str]]:
    """Label, published and measured score, published and measured change; only rows with a published value."""
    return [
        [
            view.label(row),
            number(row["published"], digits(row["unit"])),
            view.score(row),
            signed(row.get("published_change"), digits(row["unit"])),
            f"{view.delta(row)} {view.ci(row)}".replace(NONE, "").strip() or NONE,
        ]
        for row in view.rows
        if defined(row.get("published"))
    ]


def gaps(view: View) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the run does not say, by kind: failed, not exercised, no usable signal, undefined, partial."""
    failures = [
        (
            f"{view.short(failure['model'])} · {failure['strategy']} · {_flat(failure.get('cells', ''))}",
            failure.get("reason", ""),
        )
        for failure in view.run.get("failures", [])
    ]

    def reasons(rows: list[Row]) -> list[tuple[str, str]]:
        return [(view.label(row), (row.get("change") or {}).get("reason") or row.get("reason") or "") for row in rows]

    kinds = {
        "failed": failures,
        "idle": reasons([row for row in view.compared if view.verdict(row) == "not exercised"]),
        "unusable": reasons([row for row in view.compared if view.verdict(row) == "no usable signal"]),
        "undefined": [(view.label(row), row.get("reason") or "") for row in view.rows if not defined(row["score"])],
        "partial": [
            (view.label(row), f"{row['n_scored']:,} / {row['n_items']:,}") for row in view.rows if row["partial"]
        ],
    }
    return [(kind, members) for kind, members in kinds.items() if members]


def about_benchmarks(view: View) -> list[dict[str, str]]:
    """Each benchmark's question, source, licence and known limits, from its class."""
    from tiltmeter.registry import known

    classes = known("benchmark")
    result = []
    for name in view.benchmarks:
        cls: Any = classes.get(name)
        row = next(row for row in view.rows if row["benchmark"] == name)
        result.append(
            {
                "name": name,
                "title": view.words.name("benchmark", name)
                if view.words.has(f"benchmark.{name}")
                else getattr(cls, "title", ""),
                "limits": getattr(cls, "limits", view.words("benchmarks.unknown")),
                "source": getattr(cls, "source", ""),
                "licence": getattr(cls, "licence", NONE),
                "items": f"{row['n_items']:,}",
                "ideal": f"{row['ideal']:g}",
                "unit": words_unit(view, row),
            }
        )
    return result


def method_values(view: View) -> dict[str, Any]:
    study = view.run.get("study", {})
    correction = view.words.name("correction", study.get("correction", "holm"))
    return {"draws": f"{study.get('draws', 10_000):,}", "correction": correction}


def provenance(view: View) -> Iterator[tuple[str, Pairs]]:
    """Hashes, versions, hardware, seeds."""
    run, words = view.run, view.words
    yield (
        words("provenance.study"),
        [(name, _flat(value)) for name, value in run.get("study", {}).items() if value not in (None, {}, [])],
    )
    yield words("provenance.versions"), [(name, str(value)) for name, value in run.get("versions", {}).items()]
    yield (
        words("provenance.hardware"),
        [
            (name, size(value) if name.endswith("bytes") else _flat(value))
            for name, value in run.get("hardware", {}).items()
            if value not in (None, [], "")
        ],
    )
    yield words("provenance.data"), [(name, _flat(value)) for name, value in run.get("data", {}).items()]
    yield (
        words("provenance.weights"),
        [
            (variant_label(view, variant), _flat(variant["weight_hash"]))
            for variant in view.variants
            if variant.get("weight_hash")
        ],
    )
    yield (
        words("provenance.run"),
        [(name, _flat(run[name])) for name in ("path", "started", "batch_tokens") if run.get(name)],
    )
