"""A served model as a base or a variant: an OpenAI-compatible completions server, named by its address.

    http://HOST:8000/v1          the one model that is served there
    http://HOST:8000/v1#NAME     one of several

Prompts are token ids made by the base's tokenizer: the same questions. A first probe says what the server can answer:
it must see exactly the ids it was sent (no second BOS, the same vocabulary) and give a prompt's own log-probabilities.
What it cannot answer is unscored with that reason; the rest is asked. A server that is down, locked or broken ends the
command before anything is computed.

Not promised
    sampling      the server's own generator; seeds make texts repeatable there at most
    numerics      a server batches as it likes, so the last digits may change between two runs
    end tokens    special tokens are kept in the text where the server returns token ids; elsewhere the end token is put
                  back when the server says that it stopped there, and other special tokens are lost
    identity      no weights can be hashed: answers are keyed by address, name and what the server says of the model, so
                  a server that is started anew with other weights under the same name needs another --out
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.backends import _probe
from tiltmeter.backends.base import Answering, Backend, BackendFailed, Identity
from tiltmeter.errors import UserError, missing_extra
from tiltmeter.messages import Message, Text, join, say
from tiltmeter.models import reading
from tiltmeter.models.address import address_and_name, is_address
from tiltmeter.models.folders import WANTED
from tiltmeter.models.resolve import resolve
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.printed import whole
from tiltmeter.registry import register
from tiltmeter.scoring.requests import OptionProbs
from tiltmeter.strategies.base import LoadFailed
from tiltmeter.variants.ready_made import end_ids, other_tokenizer

if TYPE_CHECKING:
    from tiltmeter.backends._completions import Completions
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.strategies.base import Strategy
    from tiltmeter.study import VariantSpec

AT_ONCE = 8  # requests on the way to a server at any time
BATCH_TOKENS = 2048  # a served model's share of work between two commits
REPORTED = ("id", "root", "parent", "owned_by", "max_model_len", "meta")  # of /models: what does not change by itself
SAME_MODEL = Message("served.same_model")
LONGEST_REPORT = 200  # characters of one value that a server reports of its model


@dataclass(frozen=True)
class Served:
    """One served model, probed.

    Attributes:
        reported: what its server says of it.
        tokenizer_of: the model whose tokenizer makes its prompts.
        max_length: tokens of prompt and answer; one is kept back, because servers write one token even when they score.
        obstacles: request class -> why no such request can be answered.
    """

    address: str
    name: str
    reported: dict[str, Any]
    lm: Completions
    tokenizer: Any
    tokenizer_of: str
    eos_ids: frozenset[int]
    max_length: int
    obstacles: dict[type, Text] = field(default_factory=dict)
    notes: list[Text] = field(default_factory=list)


@register("backend", "endpoint")
class Endpoint(Backend):
    """Used for every model or variant that is an address, whatever `--backend` says of checkpoints."""

    about = "an OpenAI-compatible completions server, named by its address (http://HOST/v1 or http://HOST/v1#NAME)"
    runs_on = "where it is served"
    source = "lm_eval (local-completions)"

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._served: dict[str, Served] = {}

    def check(self) -> None:
        self.refuse(_acts, "serve the model under it and compare: tiltmeter compare BASE http://HOST/v1", served=True)
        try:
            import aiohttp  # noqa: F401
            import lm_eval.models.openai_completions  # noqa: F401
            import tenacity  # noqa: F401
        except ImportError as error:
            raise missing_extra(error.name or "lm_eval", "lm-eval", "a served endpoint") from None

    def identity(self, source: str) -> Identity:
        if not is_address(source):
            raise UserError(f"{source} is no address, so no endpoint serves it", fix="leave --backend out")
        known = self._probed(source)
        return Identity(known.tokenizer, _hash(known), "as served", {"backend": "endpoint", "served_model": known.name})

    def load(self, spec: VariantSpec) -> LoadedVariant:
        from tiltmeter.backends._http import together

        known = self._probed(spec.source)
        variant = LoadedVariant(
            model_name=spec.source,
            strategy=spec.strategy,
            model=None,  # type: ignore[arg-type]
            tokenizer=known.tokenizer,
            device="served",
            dtype="as served",
            eos_ids=known.eos_ids,
            max_length=known.max_length,
            weight_hash=_hash(known),
            settings=spec.chain.settings,
            notes=list(known.notes),
        )
        summary = (say("served.served", name=known.name, address=known.address), say("served.no_weights"))
        variant.proof = {"summary": join("join.clauses", summary), "reported": known.reported}
        if OptionProbs in known.obstacles:
            _probe.tell(variant, say("served.not_compared", clause=known.obstacles[OptionProbs]))
            return variant
        pairs = [(ids, [token]) for ids, token in _probe.questions(known.tokenizer)]
        try:
            asks = [partial(known.lm.logprob, before=before, after=after) for before, after in pairs]
            found = together(asks, AT_ONCE, partial(self._waiting, known.address))
        except BackendFailed as error:
            raise LoadFailed(f"{spec.source}: {error}") from None
        if spec.source == spec.model:
            variant.proof["probe_logprobs"] = found
        else:
            same = self._same_tokens(variant, spec)
            base = self._of_base(spec.model, known) if same else None
            _probe.compare(variant, found, base, control=SAME_MODEL)
        return variant

    def engine(self, variant: LoadedVariant, batch_tokens: int) -> Answering:
        from tiltmeter.backends._served import ServedEngine

        known = self._probed(variant.model_name)
        return ServedEngine(
            variant,
            known.lm,
            batch_tokens=batch_tokens,
            obstacles=known.obstacles,
            at_once=AT_ONCE,
            waiting=partial(self._waiting, known.address),
        )

    def auto_batch_tokens(self, variant: LoadedVariant) -> int:
        return BATCH_TOKENS

    def _same_tokens(self, variant: LoadedVariant, spec: VariantSpec) -> bool:
        """Whether a tokenizer named for the prompts cuts them as the base's; if not, the proof and the run say so."""
        if is_address(spec.model) or self._probed(spec.source).tokenizer_of == spec.model:
            return True
        base = reading.load_tokenizer(resolve(spec.model), spec.model)
        found = other_tokenizer(base, variant.tokenizer)
        variant.proof["differences"] = [each.as_json() for each in found]
        variant.notes += [each.text for each in found]
        return not any(each.incomparable for each in found)

    def _of_base(self, base: str, known: Served) -> Any:
        stored = self.probed(base)
        if stored is not None or is_address(base):
            return stored
        device = reading.pick_device(self.study.device)
        return _probe.of_checkpoint(base, known.tokenizer, device, self.dtype_of(base))

    def _waiting(self, address: str, line: str) -> None:
        self.say(f"{address}: {line}")

    def _probed(self, source: str) -> Served:
        if source not in self._served:
            self.say(f"asking {source} what it can answer")
            self._served[source] = self._ask(source)
        return self._served[source]

    def _ask(self, source: str) -> Served:
        """Raises UserError for an address that cannot be asked."""
        from tiltmeter.backends import _completions
        from tiltmeter.backends._http import HttpStatus, Nonsense, together
        from tiltmeter.backends._served import probe

        address, wanted = address_and_name(source)
        waiting = partial(self._waiting, address)
        try:
            [listed] = together([partial(_completions.served, address=address)], waiting=waiting)
            reported = _chosen(source, wanted, listed)
            name = reported["id"]
            tokenizer_of = self._tokenizer_of(source, reported)
            tokenizer, eos_ids, longest = _prompt_maker(tokenizer_of)
            longest = _length(reported, longest)
            also = [str(reported[key]) for key in ("root", "parent") if reported.get(key)]
            lm = _completions.Completions(address, name, sorted(eos_ids), also=also)
            obstacles, notes = probe(lm, tokenizer, waiting)
        except HttpStatus as error:
            raise UserError(f"{address} cannot be used: {error}", fix=_fix(error.status)) from None
        except Nonsense as error:
            raise UserError(str(error), fix="the address must be that of an OpenAI-compatible server") from None
        except BackendFailed as error:
            raise UserError(str(error), fix="start the server, or check the address") from None
        notes = [
            say("served.served_note", address=address, name=name, model=tokenizer_of),
            *notes,
        ]
        return Served(address, name, reported, lm, tokenizer, tokenizer_of, eos_ids, longest - 1, obstacles, notes)

    def _tokenizer_of(self, source: str, reported: dict[str, Any]) -> str:
        """Whose tokenizer makes the prompts: as named, the base's, or that of what the server says it serves."""
        base = self.study.models[0] if source not in self.study.models else source
        named = self.study.tokenizer or (base if not is_address(base) else None)
        if named:
            return named
        if base != source:  # the base is served too: its questions are this one's
            return self._probed(base).tokenizer_of
        return str(reported.get("root") or reported["id"])


def _chosen(source: str, wanted: str, listed: list[dict[str, Any]] | None) -> dict[str, Any]:
    """What the server reports of the wanted model (of its only one, when none is named)."""
    if not listed:
        if not wanted:
            raise UserError(f"{source} does not say which models it serves", fix=f"name one: {source}#NAME")
        return {"id": wanted}
    names = [str(entry["id"]) for entry in listed]
    if wanted not in names if wanted else len(names) > 1:
        trouble = f"does not serve {wanted!r}" if wanted else f"serves {len(names)} models"
        raise UserError(
            f"{source.partition('#')[0]} {trouble}",
            fix="choose one: " + ", ".join(f"{source.partition('#')[0]}#{name}" for name in names[:5]),
        )
    entry = listed[names.index(wanted)] if wanted else listed[0]
    return _plain({key: entry[key] for key in REPORTED if entry.get(key) is not None})


def _plain(reported: dict[str, Any]) -> dict[str, Any]:
    """What a server says of a model, as far as it is short text or numbers; one level deep."""
    found: dict[str, Any] = {}
    for key, value in reported.items():
        if isinstance(value, str):
            found[whole(key)[:LONGEST_REPORT]] = whole(value)[:LONGEST_REPORT]
        elif isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**63):
            found[whole(key)[:LONGEST_REPORT]] = value
        elif isinstance(value, dict) and key in REPORTED:
            found[key] = _plain({f"{inner}": value[inner] for inner in list(value)[:50] if inner not in REPORTED})
    return found


def _length(reported: dict[str, Any], otherwise: int) -> int:
    """The context length that a server reports. Raises UserError where it is none."""
    found = reported.get("max_model_len", otherwise)
    if isinstance(found, bool) or not isinstance(found, int) or not 2 <= found < 2**31:
        raise UserError(
            f"the server reports a context length of {str(found)[:40]!r} for {reported['id']}",
            fix="look into its settings",
        )
    return found


def _prompt_maker(name: str) -> tuple[Any, frozenset[int], int]:
    """(tokenizer, ids that end a generation, context length) of a model; its weights are neither needed nor fetched."""
    try:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(name, allow_patterns=[p for p in WANTED if p != "*.safetensors"]))
    except Exception as error:  # absent, gated, no such name (a server may report anything), no network: all end here
        raise UserError(
            f"the tokenizer of {name!r} cannot be had: {type(error).__name__}",
            fix="name a folder or hub id that has it: --tokenizer MODEL",
        ) from None
    config = reading.load_config(folder, name)
    text_config = config.get_text_config(decoder=True)
    longest = getattr(text_config, "max_position_embeddings", None) or reading.NO_LIMIT
    return reading.load_tokenizer(folder, name), frozenset(end_ids(folder, config)), int(longest)


def _hash(known: Served) -> str:
    """Stands where a weight hash would: address, name, what is reported, what was found, and the prompts' tokenizer."""
    vocabulary = sorted(known.tokenizer.get_vocab().items())
    obstacles = sorted((kind.__name__, str(reason)) for kind, reason in known.obstacles.items())
    told = json.dumps([known.address, known.name, known.reported, obstacles, vocabulary], sort_keys=True)
    return "endpoint-" + hashlib.sha256(told.encode()).hexdigest()


def _fix(status: int) -> str:
    if status in (401, 403):
        return "set the key in the environment: export OPENAI_API_KEY=…"
    if status == 404:
        return (
            "a chat-only server cannot be asked: log-probabilities need POST ADDRESS/completions "
            "(is the address complete, such as http://HOST:8000/v1?)"
        )
    return "look into the server's log"


def _acts(part: Strategy) -> str | None:
    return None if part.redraws else "weights that are served elsewhere cannot be changed from here"
