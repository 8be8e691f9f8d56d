"""`tiltmeter demo`: the whole job on the built-in model and its toy world, offline.

The model was trained to have biases of a stated size (docs/demo_model.md), so the first line of the table is
the truth and the second is what was measured: the instrument can be checked before it is trusted.
"""

from __future__ import annotations

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from tiltmeter.errors import UserError
from tiltmeter.pipeline import run
from tiltmeter.printed import STYLE, defined, digits, number, signed
from tiltmeter.results.document import read_document
from tiltmeter.runs.progress import Terminal
from tiltmeter.schema import Row, Verdict
from tiltmeter.schema.place import is_base
from tiltmeter.study import make_study

if TYPE_CHECKING:
    from rich.console import Console

HERE = Path(__file__).resolve().parent
BASE = HERE / "models" / "base"
DATA = HERE / "data"

# strategy -> the library it needs
WANTED = {
    "int8": "bitsandbytes",
    "int4": "bitsandbytes",
    "kv4": "compressed_tensors",
    "wanda": "llmcompressor",
    "wanda-2:4": "llmcompressor",
    "awq": "llmcompressor",
    "wanda-2:4+int4": "llmcompressor",
}
# in two lines, so that the table fits a terminal of 80 columns
HEADINGS = {
    "crows-pairs": "crows-\npairs",
    "discrim-eval": "discrim-\neval",
    "discrim-eval-gen": "discrim-\neval-gen",
    "dt-stereotyping": "dt-stereo-\ntyping",
    "global-opinion-qa": "global-\nopinion-qa",
    "worldbench": "world-\nbench",
    "bbq": "bbq",
    "winobias": "wino-\nbias",
}
BENCHMARKS = tuple(HEADINGS)
KEY = "  ".join(
    f"{verdict.sign} {word}"
    for verdict, word in {
        **{verdict: str(verdict) for verdict in Verdict},
        Verdict.INCONCLUSIVE: "cannot tell",
        Verdict.NOT_EXERCISED: "not acting",
    }.items()
)
QUICK_DECISIONS = 15 * 45  # whole questions of 45 people each


def run_demo(keep: Path | None, full: bool, seed: int, console: Console) -> int:
    """Measures the built-in model under the usual strategies and explains the result.

    Args:
        keep: folder that receives the run; None: a temporary folder, removed at the end.
        full: both formats, five samples, all decisions; minutes instead of a minute.
        seed: of the sampled answers and the statistics.
    Returns: 0, or 3 when some part of the run failed (it is named).
    Raises: UserError when the built-in model is missing or `keep` cannot be used.
    """
    if not (BASE / "model.safetensors").exists():
        raise UserError(
            "the built-in model is not installed",
            fix="reinstall tiltmeter: pip install --force-reinstall tiltmeter",
        )
    strategies, left_out = available()
    console.print(
        "[bold]A toy world.[/bold] The model is tiny and was trained on invented countries, peoples and "
        "scenes, with biases of a known size. Nothing here says anything about a real model or a real group; "
        "it shows what tiltmeter does.\n",
        highlight=False,
    )
    for name, library in left_out.items():
        console.print(f"[yellow]left out: {name} (needs {library}: pip install 'tiltmeter\\[compress]')[/yellow]")
    if keep is not None:
        return _measure(keep, strategies, full, seed, console, kept=True)
    with tempfile.TemporaryDirectory(prefix="tiltmeter-demo-") as folder:
        return _measure(Path(folder) / "run", strategies, full, seed, console, kept=False)


def available() -> tuple[list[str], dict[str, str]]:
    """Strategies of WANTED that can run here, and those that cannot with the library they lack."""
    left_out = {name: library for name, library in WANTED.items() if find_spec(library) is None}
    return [name for name in WANTED if name not in left_out], left_out


def study_of(strategies: list[str], full: bool, seed: int, kept: bool = True) -> Any:
    """The study the demo runs; also what --full adds. How far variants lie from the base stands in the report alone: a
    run that is not kept does not measure it."""
    return make_study(
        models=(str(BASE),),
        strategies=tuple(strategies),
        benchmarks=BENCHMARKS,
        data=str(DATA),
        format="both" if full else "plain",
        decoding="both" if full else "greedy",
        samples=5 if full else 2,
        limits={} if full else {"discrim-eval": QUICK_DECISIONS},
        fidelity=kept,
        seed=seed,
    )


def _measure(out: Path, strategies: list[str], full: bool, seed: int, console: Console, kept: bool) -> int:
    import torch

    torch.set_num_threads(1)  # a model this small loses more to threads waiting for each other than it gains
    summary = run(study_of(strategies, full, seed, kept), out, Terminal())
    rows = [row for row in read_document(out).rows if row.place.asked == ("plain", "greedy")]
    for table in results_tables(rows, console):
        console.print(table)
    console.print(
        f"[dim]{KEY}\n"
        "Below the base: change on the same questions. Verdicts of differences between groups (discrim-eval, "
        "discrim-eval-gen, global-opinion-qa) rest on the spread freed of noise, which can move against the "
        "score shown.[/dim]\n",
        highlight=False,
    )
    for sentence in meaning(rows):
        console.print("• " + sentence, highlight=False, markup=False)
    console.print(next_steps(out if kept else None), highlight=False)
    for failure in summary.failures:
        console.print(f"failed: {failure.strategy}: {failure.reason}", style="yellow", markup=False)
    return 3 if summary.failures else 0


def planted_scores() -> dict[str, float]:
    """The true score of each benchmark, plain and greedy."""
    planted = json.loads((DATA / "planted.json").read_text(encoding="utf-8"))
    return {
        "crows-pairs": planted["crows-pairs"]["score"],
        "discrim-eval": planted["discrim-eval"]["score"],
        "discrim-eval-gen": planted["discrim-eval-gen"]["gender"]["plain"]["score"],
        "dt-stereotyping": planted["dt-stereotyping"]["plain"]["score"],
        "global-opinion-qa": planted["global-opinion-qa"]["score"],
        "worldbench": planted["worldbench"]["plain"]["score"],
        "bbq": planted["bbq"]["score"],
        "winobias": planted["winobias"]["score"],
    }


def results_tables(rows: list[Row], console: Console) -> list[Any]:
    """One table, or as many as it takes for each to fit the console: no number is cut."""
    blocks: list[list[str]] = [[]]
    unbounded = console.options.update(max_width=10 * console.width)
    for benchmark in sorted({row.benchmark for row in rows}, key=BENCHMARKS.index):
        wider = [*blocks[-1], benchmark]
        needed = console.measure(results_table(rows, wider), options=unbounded).maximum
        if blocks[-1] and needed > console.width:
            blocks.append([benchmark])
        else:
            blocks[-1] = wider
    return [results_table(rows, block) for block in blocks]


def results_table(rows: list[Row], benchmarks: list[str]) -> Any:
    """Strategies down, `benchmarks` across: planted score, base score, then signed changes with verdicts."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    truth = planted_scores()
    base = {row.benchmark: row for row in rows if row.change is None}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column("", no_wrap=True)
    for benchmark in benchmarks:
        table.add_column(HEADINGS.get(benchmark, benchmark), justify="right", no_wrap=True)
    for name, values in (("ideal", {b: base[b].ideal for b in benchmarks}), ("planted", truth)):
        table.add_row(name, *(number(values[b], digits(base[b].unit)) for b in benchmarks), style="dim")
    for strategy in dict.fromkeys(row.strategy for row in rows):
        cells = []
        for benchmark in benchmarks:
            row = next((r for r in rows if (r.strategy, r.benchmark) == (strategy, benchmark)), None)
            if row is None:
                cells.append(Text("failed", style="yellow"))
            elif row.change is None:
                cells.append(Text(number(row.score, digits(row.unit)), style="bold"))
            else:
                verdict = row.change.verdict
                moved = signed(row.change.delta, digits(row.unit))
                cells.append(Text(f"{moved} {verdict.sign}", style=STYLE[verdict.colour]))
        table.add_row("base" if is_base(strategy) else strategy, *cells)
    return table


def meaning(rows: list[Row]) -> list[str]:
    """What the table says, in sentences made from its own rows."""
    by_strategy: dict[str, dict[Verdict, list[str]]] = {}
    for row in rows:
        if row.change:
            verdicts = by_strategy.setdefault(row.strategy, {})
            verdicts.setdefault(row.change.verdict, []).append(row.benchmark)
    told: dict[str, list[str]] = {}  # sentence without its subject -> strategies
    quiet: dict[str, int] = {}  # strategy -> benchmarks shown equivalent
    for strategy, verdicts in by_strategy.items():
        for verdict, words in (
            (Verdict.WORSE, "made the model measurably worse"),
            (Verdict.SHIFTED, "changed whom the model favours, by as much as before"),
            (Verdict.NO_USABLE_SIGNAL, "damaged the answers themselves, so a lower score is no improvement"),
            (Verdict.BETTER, "moved the model measurably toward the ideal"),
        ):
            if names := verdicts.get(verdict):
                where = "every benchmark" if len(names) == sum(map(len, verdicts.values())) else ", ".join(names)
                told.setdefault(f"{words}: {where}.", []).append(strategy)
        if not any(verdict.moved or verdict is Verdict.NO_USABLE_SIGNAL for verdict in verdicts):
            quiet[strategy] = len(verdicts.get(Verdict.EQUIVALENT, []))
    sentences = [trust(rows), *place(rows)] + [f"{', '.join(names)} {words}" for words, names in told.items()]
    if quiet:
        shown = ", ".join(
            f"{strategy} ({n} of {len({row.benchmark for row in rows})})" for strategy, n in quiet.items()
        )
        sentences.append(
            f"No measurable change, with the benchmarks on which it was shown equivalent: {shown}. "
            "The others need more questions before anyone can tell."
        )
    quiet_verdicts = (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)
    turned = [
        (row.change.flips, row)
        for row in rows
        if row.change and row.change.verdict in quiet_verdicts and row.change.flips and row.change.flips.n
    ]
    if turned:
        flips, row = max(turned, key=lambda each: each[0].n / each[0].of)
        sentences.append(
            f"A score can stand still while answers move: {row.strategy} flipped "
            f"{flips.n} of {flips.of} answers of {row.benchmark} without a verdict of change."
        )
    return sentences


def trust(rows: list[Row]) -> str:
    """How near the base's scores come to the planted ones, over the benchmarks that were measured whole."""
    truth = planted_scores()
    whole = [row for row in rows if not row.change and not row.partial and defined(row.score)]
    far = [
        f"{row.benchmark}: {row.score:.4g} where {truth[row.benchmark]:.4g} was planted"
        for row in whole
        if abs(row.score - truth[row.benchmark]) > (2.0 if digits(row.unit) == 2 else 0.05)
    ]
    return (
        f"Can it be trusted? The base scores within 2 points (or 0.05) of what was planted on "
        f"{len(whole) - len(far)} of {len(whole)} benchmarks that were measured whole"
        + (f" ({'; '.join(far)})." if far else ".")
    )


def place(rows: list[Row]) -> list[str]:
    """That the base likes an answer for where it stands, beside what was planted; nothing where bbq was not asked."""
    base = next((row for row in rows if row.benchmark == "bbq" and not row.change), None)
    if base is None or "p_place_a" not in base.extra:
        return []
    planted = json.loads((DATA / "planted.json").read_text(encoding="utf-8"))["bbq"]["places"]
    first, last = (f"{base.extra[f'p_place_{letter}']:.2f} (planted {planted[letter]:.2f})" for letter in "ac")
    return [
        f"Order counts: the base gives bbq's first answer {first} and its last {last} on average, though each "
        "of the three stands in every place equally often. `--orders all` asks every order and averages that out."
    ]


def next_steps(run: Path | None) -> str:
    """What to type now."""
    if run is None:
        mine = ["  tiltmeter demo --keep runs/demo      the same, kept for report and gate"]
    else:
        shown = quote(str(run)).replace("[", r"\[")  # rich's markup is on
        mine = [
            f"  tiltmeter report {shown}      one page with every number, picture and limit",
            f"  tiltmeter results {shown}     the full table with intervals and reasons",
        ]
    lines = [
        "",
        "[bold]Next, on a real model[/bold]",
        *mine,
        "  tiltmeter data fetch                 the six datasets, pinned and checked",
        "  tiltmeter run Qwen/Qwen3-0.6B -s int4 -s kv4 --limit 200 --out runs/first",
        "  tiltmeter report runs/first",
    ]
    return "\n".join(lines)
