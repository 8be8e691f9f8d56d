"""Does a variant still write? Evidence for the coherence gate, one block per variant.

    perplexity     exp(mean negative log-likelihood per token) on passages of a given text
    answers        per generating cell, over the variant's own answers:
      base_logprob   mean log-likelihood per token of the answers under the BASE model (nats); the base's own
                     answers, scored the same way, are what it is compared with
      words, eos_rate, repeated, empty, unparsed, contradictory, other_script

A lower bias score from a model whose answers rot is not an improvement; parse rate, length and
perplexity alone can miss it, the likelihood under the base and contradictions do not.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from tiltmeter.analysis.signal import repeated_share
from tiltmeter.errors import UserError
from tiltmeter.registry import build
from tiltmeter.runs.guesses import Guessed, acceptance
from tiltmeter.runs.store import Cell, Store, digest, started_cells, stored_variant, write_variant
from tiltmeter.schema import AnswerQuality, TextQuality
from tiltmeter.schema.place import NONE
from tiltmeter.schema.variant import answers_of
from tiltmeter.scoring import turns
from tiltmeter.scoring.requests import Generation, GenerationAnswer, Prompt, SequenceAnswer, SequenceLogprob
from tiltmeter.seeds import seed_for
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.backends.base import Answering, Identity
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.runs.loading import Loader

PASSAGES = 64  # passages of the text; enough for a perplexity to within a few per cent
PASSAGE_CHARACTERS = 400
ANSWERS = 48  # answers per cell whose likelihood under the base is computed


def default_text(data: str) -> Path:
    """General prose of our own (English, 32 passages); of the built-in world's data the text that world comes with."""
    world = Path(str(files("tiltmeter.demo"))) / "data"
    if Path(data).expanduser().resolve() == world.resolve():
        return world / "text" / "heldout.txt"
    return Path(str(files("tiltmeter.runs"))) / "neutral.txt"


def passages(path: Path, seed: int) -> list[str]:
    """At most PASSAGES passages of the text, seeded. Accepts plain text, or JSON: a list of strings."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the text {path}: {error}", fix="give a UTF-8 text file with --text") from None
    if path.suffix == ".json":
        texts = [str(text) for text in json.loads(content)]
    else:
        texts = [part for part in content.split("\n\n")] if "\n\n" in content else content.splitlines()
    texts = [text.strip()[:PASSAGE_CHARACTERS] for text in texts if len(text.strip()) >= 20]
    if not texts:
        raise UserError(f"the text {path} holds no passage of 20 characters", fix="give a longer text with --text")
    order = np.random.default_rng(seed_for(seed, "perplexity", path.name)).permutation(len(texts))
    return [texts[index] for index in sorted(order[:PASSAGES])]


def measure_text(variant: LoadedVariant, engine: Answering, study: Study) -> TextQuality:
    """Perplexity of the study's text (`default_text` where it names none) under a loaded variant."""
    path = _text(study)
    texts = study_passages(study)
    scored = [answer for answer in _log_likelihoods(engine, texts) if answer is not None]
    tokens = sum(n for _, n in scored)
    value = math.exp(min(-sum(nats for nats, _ in scored) / tokens, 700.0)) if tokens else math.nan
    return TextQuality(
        perplexity=value,
        n_tokens=tokens,
        n_passages=len(scored),
        text=path.name,
        text_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        answers={},
    )


def text_key(study: Study) -> str:
    """What a perplexity belongs to beside its variant: the bytes of the text and the seed that draws passages."""
    path = _text(study)
    if not path.is_file():
        raise UserError(f"there is no text file {path}", fix="check the path given with --text")
    return digest([hashlib.sha256(path.read_bytes()).hexdigest(), study.seed])


def study_passages(study: Study) -> list[str]:
    """The passages of the study's text."""
    return passages(_text(study), study.seed)


def text_name(study: Study) -> str:
    return _text(study).name


def _text(study: Study) -> Path:
    return Path(study.text).expanduser() if study.text else default_text(study.data)


def judge_answers(store: Store, study: Study, loader: Loader, fail: Callable[[str], None]) -> None:
    """Fill `text_quality.answers` of every variant; loads each base model at most once more.

    Only the newest cell of each row, which is of the weights that the facts are about. What goes wrong is told to
    `fail`, and costs that cell's judgement only.
    """
    order = {folder: place for place, folder in enumerate(loader.record.cells)}
    cells = sorted(started_cells(store.path), key=lambda cell: order.get(cell.id.folder, -1))
    newest = {cell.id.place: cell for cell in cells}
    for model in study.models:
        base = VariantSpec(model=model, strategy=NONE, source=model)
        for cell in newest.values():
            if cell.id.model != model or build("benchmark", cell.id.benchmark).request_kind != "generation":
                continue
            facts = stored_variant(store.path, model, cell.id.strategy)
            if facts is None or cell.done is None:
                continue
            quality = facts.text_quality or TextQuality(answers={})
            name = answers_of(cell.id.place)
            key = digest([cell.id.key, loader.identity(model).weight_hash, study.seed])
            if name in quality.answers and quality.answers[name].key == key:
                continue
            loader.progress.note(f"{cell.id.strategy} · {name}: its answers under the base …")
            try:
                likelihood = _under_base(cell, loader.engine(base), study.seed, loader.identity(model))
            except Exception as error:  # a served base that is gone, say: all else of the run stands
                fail(f"text quality of {cell.id.strategy}, {name}: {type(error).__name__}: {error}")
                continue
            guessed = acceptance(_guessed(cell), study.seed)
            found = _describe(cell).but(key=key, **likelihood, acceptance=guessed)
            answers = {**quality.answers, name: found}
            quality = quality.model_copy(update={"answers": answers})
            write_variant(store.path, facts.model_copy(update={"text_quality": quality}))


def _generations(cell: Cell) -> Iterator[tuple[int, Generation, GenerationAnswer]]:
    """(number of the request, request, answer) of everything that was generated, in no particular order."""
    for place, _, requests, answers in cell.answered_items():
        for index, request, answer in zip(cell.inputs.span(place), requests, answers, strict=True):
            if isinstance(request, Generation) and isinstance(answer, GenerationAnswer) and answer.error is None:
                yield index, request, answer


def _guessed(cell: Cell) -> Iterator[Guessed]:
    """Every item with a guessed answer."""
    for _, item, _, answers in cell.answered_items():
        texts = [each for each in answers if isinstance(each, GenerationAnswer) and each.guessed]
        if texts:
            yield Guessed(
                item.cluster,
                tuple(item.groups.items()),
                len(texts),
                sum(each.guessed for each in texts),
                sum(each.accepted for each in texts),
                sum(each.n_tokens for each in texts),
            )


def _describe(cell: Cell) -> AnswerQuality:
    """Shares in [0, 1] over the cell's answers; `unparsed` and `contradictory` as the benchmark says."""
    columns: dict[str, list[float]] = {
        name: [] for name in ("words", "eos_rate", "repeated", "empty", "unparsed", "contradictory", "other_script")
    }
    for _, request, answer in _generations(cell):
        text = answer.clean or ""
        columns["words"].append(len(text.split()))
        columns["eos_rate"].append(answer.stopped == "eos")
        columns["repeated"].append(repeated_share(text))
        columns["empty"].append(not text.strip())
        columns["other_script"].append(_other_script(text, request.prompt))
    n = len(columns["words"])
    if not n:
        return AnswerQuality(n=0)
    benchmark = build("benchmark", cell.id.benchmark)
    for _, item, _, answers in cell.answered_items():
        for sample in benchmark.outcome(item, answers).samples:
            columns["unparsed"].append(sample.values.get("unparsed", float(math.isnan(sample.score))))
            contradictory = sample.values.get("contradictory", math.nan)
            columns["contradictory"] += [] if math.isnan(contradictory) else [contradictory]
    means = {name: _mean(values) if values else math.nan for name, values in columns.items()}
    return AnswerQuality(n=n).but(**means)


def _mean(values: Sequence[float]) -> float:
    """Summed exactly, so that the order in which answers came does not show."""
    return math.fsum(values) / len(values)


def _other_script(text: str, prompt: str) -> bool:
    """Whether most letters of the text are of scripts that the prompt does not use."""
    allowed = _scripts(prompt)
    letters = [_script(character) for character in text if character.isalpha()]
    return bool(letters) and sum(script not in allowed for script in letters) > len(letters) / 2


def _scripts(text: str) -> set[str]:
    return {_script(character) for character in text if character.isalpha()}


def _script(character: str) -> str:
    return unicodedata.name(character, "UNKNOWN").split(" ", 1)[0]


class _Likelihood(TypedDict, total=False):
    """Those fields of `AnswerQuality` that the base model gives."""

    base_logprob: float
    base_logprob_n: int
    base_logprobs: tuple[float, ...]


def _under_base(cell: Cell, engine: Answering, seed: int, base: Identity) -> _Likelihood:
    """Mean log-likelihood per token (nats) of a seeded sample of answers under the base model.

    log p(prompt + answer) - log p(prompt), each tokenized as one string: prompt and answer ids are
    never glued. Answers that add no token are left out and counted.
    """
    spoken = sorted(index for index, _, answer in _generations(cell) if answer.clean)
    if not spoken:
        return {"base_logprob": math.nan, "base_logprob_n": 0}
    order = np.random.default_rng(seed_for(seed, "judge", cell.id.benchmark)).permutation(len(spoken))[:ANSWERS]
    wanted = {spoken[place] for place in order}
    pairs = {
        i: (_text_for(base, request.prompt), answer.clean or "")
        for i, request, answer in _generations(cell)
        if i in wanted
    }
    chosen = [pairs[index] for index in sorted(pairs)]
    texts = [prompt + answer for prompt, answer in chosen] + [prompt for prompt, _ in chosen]
    found = _log_likelihoods(engine, texts)
    nats = [
        (whole[0] - prompt[0]) / (whole[1] - prompt[1])
        for whole, prompt in zip(found[: len(chosen)], found[len(chosen) :])
        if whole and prompt and whole[1] > prompt[1]
    ]
    return {
        "base_logprob": float(np.mean(nats)) if nats else math.nan,
        "base_logprob_n": len(nats),
        "base_logprobs": tuple(round(value, 4) for value in nats),
    }


def _text_for(base: Identity, prompt: str) -> str:
    """A prompt as the base would be asked it: turns that a server's own template rendered get the base's template."""
    asked = turns.from_text(prompt)
    return base.renderer("chat")[0](Prompt("", asked.messages, asked.prefix)) if asked else prompt


def _log_likelihoods(engine: Answering, texts: Sequence[str]) -> list[tuple[float, int] | None]:
    """(log-likelihood in nats, tokens it is over) of each text; None where it could not be computed."""
    requests = [SequenceLogprob(text) for text in texts]
    found: list[tuple[float, int] | None] = [None] * len(texts)
    for batch in engine.plan(requests):
        for index, answer in zip(batch, engine.answer([requests[index] for index in batch])):
            if isinstance(answer, SequenceAnswer) and answer.logprob is not None and answer.n_tokens:
                found[index] = (answer.logprob, answer.n_tokens)
    return found
