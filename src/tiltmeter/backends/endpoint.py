"""A served model as a base or a variant: an OpenAI-compatible completions server, named by its address.

    http://HOST:8000/v1                          the one model that is served there
    http://HOST:8000/v1#NAME                     one of several
    http://HOST:8000/v1/chat/completions#NAME    through its chat endpoint (`_chat`); so is a server that has no other

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

from functools import partial
from typing import TYPE_CHECKING, Any

from tiltmeter.backends import _probe
from tiltmeter.backends._served_model import (
    Served,
    also_named,
    chosen,
    context_length,
    hash_of,
    prompt_maker,
    rendered_turns,
)
from tiltmeter.backends.base import Answering, Backend, BackendFailed, Identity
from tiltmeter.errors import UserError, missing_extra
from tiltmeter.messages import Message, join, say
from tiltmeter.models import reading
from tiltmeter.models.address import address_and_name, is_address
from tiltmeter.models.difference import Difference
from tiltmeter.models.resolve import resolve
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.registry import register
from tiltmeter.scoring.requests import OptionProbs
from tiltmeter.strategies.base import LoadFailed
from tiltmeter.variants.ready_made import other_tokenizer

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.strategies.base import Strategy
    from tiltmeter.study import VariantSpec

AT_ONCE = 8  # requests on the way to a server at any time
BATCH_TOKENS = 2048  # a served model's share of work between two commits
SAME_MODEL = Message("served.same_model")


@register("backend", "endpoint")
class Endpoint(Backend):
    """Used for every model or variant that is an address, whatever `--backend` says of checkpoints."""

    about = "an OpenAI-compatible server, completions or chat, by its address (http://HOST/v1 or http://HOST/v1#NAME)"
    runs_on = "where it is served"
    source = "lm_eval (local-completions)"

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._asked: dict[str, Served] = {}

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
        known = self.served(source)
        settings = {"backend": "endpoint", "served_model": known.name}
        if known.is_chat:
            settings["asked"] = "chat"
        render = partial(rendered_turns, source) if known.is_chat else None
        return Identity(known.tokenizer, hash_of(known), "as served", settings, render)

    def load(self, spec: VariantSpec) -> LoadedVariant:
        from tiltmeter.backends._chat import Chat
        from tiltmeter.backends._http import together

        known = self.served(spec.source)
        variant = LoadedVariant(
            model_name=spec.source,
            strategy=spec.strategy,
            model=None,  # type: ignore[arg-type]
            tokenizer=known.tokenizer,
            device="served",
            dtype="as served",
            eos_ids=known.eos_ids,
            max_length=known.max_length,
            weight_hash=hash_of(known),
            settings=spec.chain.settings,
            notes=list(known.notes),
        )
        summary = (say("served.served", name=known.name, address=known.address), say("served.no_weights"))
        variant.proof = {"summary": join("join.clauses", summary), "reported": known.reported}
        if isinstance(known.lm, Chat):
            self._tell_chat(variant, spec, known)
            return variant
        if OptionProbs in known.obstacles:
            _probe.tell(variant, say("served.not_compared", clause=known.obstacles[OptionProbs]))
            return variant
        asks = [
            partial(known.lm.after, prompt=ids, ids=[token], needed=[token])
            for ids, token in _probe.questions(known.tokenizer)
        ]
        try:
            answers = together(asks, AT_ONCE, partial(self._waiting, known.address))
            values = [answer.logprobs[0] for answer in answers]
            found = [float("nan") if value is None else value for value in values]
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
        from tiltmeter.backends._chat import Chat
        from tiltmeter.backends._chat_engine import ChatEngine
        from tiltmeter.backends._served import ServedEngine

        known = self.served(variant.model_name)
        if isinstance(known.lm, Chat):
            return ChatEngine(
                variant,
                known.lm,
                obstacles=known.obstacles,
                at_once=AT_ONCE,
                waiting=partial(self._waiting, known.address),
            )
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

    def _tell_chat(self, variant: LoadedVariant, spec: VariantSpec, known: Served) -> None:
        """Completes the proof of a chat endpoint: what it is asked otherwise than its base."""
        _probe.tell(variant, say("served.not_compared", clause=say("served.chat_not_probed")))
        base = self.served(spec.model) if is_address(spec.model) else None
        begun = base is None or not base.is_chat or getattr(base.lm, "goes_on", None) is not None
        if spec.source != spec.model and begun and getattr(known.lm, "goes_on", None) is None:
            asked = Difference("chat template", say("served.chat_prefix_difference"), ("options",), chat_only=True)
            variant.proof["differences"] = [asked.as_json()]
            variant.notes.append(asked.text)

    def _same_tokens(self, variant: LoadedVariant, spec: VariantSpec) -> bool:
        """Whether a tokenizer named for the prompts cuts them as the base's; if not, the proof and the run say so."""
        if is_address(spec.model) or self.served(spec.source).tokenizer_of == spec.model:
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

    def served(self, source: str) -> Served:
        """What an address serves, asked once. Raises UserError for one that cannot be asked."""
        if source not in self._asked:
            self.say(f"asking {source} what it can answer")
            self._asked[source] = self._ask(source)
        return self._asked[source]

    def _ask(self, source: str) -> Served:
        """Raises UserError for an address that cannot be asked."""
        from tiltmeter.backends import _completions
        from tiltmeter.backends._asking import probe
        from tiltmeter.backends._http import HttpStatus, Nonsense, together

        address, wanted = address_and_name(source)
        chat, address = address.endswith("/chat"), address.removesuffix("/chat")
        waiting = partial(self._waiting, address)
        try:
            [listed] = together([partial(_completions.served, address=address)], waiting=waiting)
            reported = chosen(source, wanted, listed)
            if not chat:
                [chat] = together([partial(_completions.is_chat_only, address=address, name=reported["id"])])
            if chat:
                return self._ask_chat(source, address, reported)
            name = reported["id"]
            tokenizer_of = self._tokenizer_of(source, reported)
            tokenizer, eos_ids, longest = prompt_maker(tokenizer_of)
            longest = context_length(reported, longest)
            lm = _completions.Completions(address, name, sorted(eos_ids), also=also_named(reported))
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

    def _ask_chat(self, source: str, address: str, reported: dict[str, Any]) -> Served:
        from tiltmeter.backends._chat import Chat, probe

        chat = Chat(address, reported["id"], also_named(reported))
        obstacles, notes = probe(chat, partial(self._waiting, address))
        tokenizer, eos_ids, tokenizer_of = None, frozenset[int](), ""
        try:  # its end token is put back into texts; nothing else needs one
            tokenizer_of = self._tokenizer_of(source, reported)
            tokenizer, eos_ids, _ = prompt_maker(tokenizer_of)
        except UserError:
            if self.study.tokenizer:
                raise
            tokenizer_of = ""
        notes = [say("served.chat_note", address=address, name=chat.name), *notes]
        longest = context_length(reported, reading.NO_LIMIT)
        return Served(address, chat.name, reported, chat, tokenizer, tokenizer_of, eos_ids, longest, obstacles, notes)

    def _tokenizer_of(self, source: str, reported: dict[str, Any]) -> str:
        """Whose tokenizer makes the prompts: as named, the base's, or that of what the server says it serves."""
        base = self.study.models[0] if source not in self.study.models else source
        named = self.study.tokenizer or (base if not is_address(base) else None)
        if named:
            return named
        if base != source:  # the base is served too: its questions are this one's
            return self.served(base).tokenizer_of
        return str(reported.get("root") or reported["id"])


def _fix(status: int) -> str:
    if status in (401, 403):
        return "set the key in the environment: export OPENAI_API_KEY=…"
    if status == 404:
        return (
            "the server has neither ADDRESS/completions nor ADDRESS/chat/completions "
            "(is the address complete, such as http://HOST:8000/v1?)"
        )
    return "look into the server's log"


def _acts(part: Strategy) -> str | None:
    return None if part.redraws else "weights that are served elsewhere cannot be changed from here"
