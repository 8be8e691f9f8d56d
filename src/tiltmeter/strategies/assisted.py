"""Assisted (speculative) decoding: cheap guesses, checked by the model itself. A null control.

Source      Leviathan et al. 2022, https://arxiv.org/abs/2211.17192; guesses by prompt lookup (Saxena 2023) or by
            a smaller model of the same tokenizer (`assistant`), by transformers' generate.
Changes     nothing that a greedy answer may show: its text must equal the base's. Where it does not, the
            decoding is broken, or two logits lie within rounding of each other; the proof says how often.
Guesses     of each answer, and how many were accepted, stand in the run: overall and per group, since a speed-up that
            differs by group is a finding, though no text changes (`runs.guesses`).
Applies     to greedy generation only; sampled answers and scores are computed as for the base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.models.probes import TEXTS
from tiltmeter.models.reading import load_model, load_tokenizer, own_decoding
from tiltmeter.models.resolve import resolve
from tiltmeter.models.variant import Guesses
from tiltmeter.registry import register
from tiltmeter.strategies.base import Context, Evidence, RequestKind, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class SameText(Evidence):
    """Probe prompts that are answered as without the assistant, of all."""

    identical_probes: int
    probes: int


@register("strategy", "assisted")
@dataclass(frozen=True)
class Assisted(Strategy):
    """assistant: folder or hub id of the guessing model, "" guesses from the prompt; guesses: tokens per round."""

    assistant: str = ""
    guesses: int = 8

    name = "assisted"
    summary = "null control: speculative decoding, whose greedy text must equal the base's"
    source = "https://arxiv.org/abs/2211.17192"
    library = "transformers"
    hardware = "CPU, GPU"
    paper_setting = "not part of the study"
    role = "decoding"

    def __post_init__(self) -> None:
        if self.guesses < 1:
            raise UserError(f"assisted: guesses is at least 1, got {self.guesses}", fix="the usual value is guesses=8")

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        cache = next((p for p in earlier if not p.can_take_back), None)
        return f"{cache.name}:read=transformers cannot take back a rejected guess" if cache else None

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        options: Mapping[str, object] = {"prompt_lookup_num_tokens": self.guesses}
        if self.assistant:
            folder = resolve(self.assistant)
            if load_tokenizer(folder, self.assistant).get_vocab() != variant.tokenizer.get_vocab():
                raise UserError(
                    f"assisted: {self.assistant} has another vocabulary than {variant.model_name}",
                    fix="choose an assistant of the same family, or leave assistant out",
                )
            helper = load_model(folder, variant.dtype, variant.device)
            own_decoding(helper, variant.eos_ids)
            helper.generation_config.num_assistant_tokens = self.guesses
            helper.generation_config.assistant_confidence_threshold = 0.0  # else it stops where it is unsure
            options = {"assistant_model": helper}
        variant.generate = _decoder(variant, options)

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        assert variant.generate is not None
        plain = _decoder(variant, {})
        same = 0
        for text in TEXTS:
            ids = variant.tokenizer(text).input_ids[: variant.max_length // 2]
            room = min(32, variant.max_length - len(ids))
            same += variant.generate(ids, room)[0] == plain(ids, room)[0]
        if same < len(TEXTS):
            variant.notes.append(say("note.assisted_differs", same=same, n=len(TEXTS)))
        by = self.assistant or say("proof.prompt_lookup")
        return SameText(say("proof.assisted", by=by, same=same, n=len(TEXTS)), same, len(TEXTS))

    def not_exercised(self, request_kind: RequestKind) -> Text | None:
        return None if request_kind == "generation" else say("idle.assisted_text")


def _decoder(
    variant: LoadedVariant, options: Mapping[str, object]
) -> Callable[[list[int], int], tuple[list[int], Guesses]]:
    """(prompt ids, most new tokens) -> new ids, greedy, the end token included when it came; and what was guessed.

    Counted from what the model is given: each of its forwards reads the guesses of one round behind the last token that
    was settled (the first one behind the prompt), and settles one token more than it accepts. What was guessed past the
    end of a text counts as not accepted.
    """

    def generate(ids: list[int], max_new_tokens: int) -> tuple[list[int], Guesses]:
        import torch

        read: list[int] = []  # tokens in each forward of the model itself

        def count(module: Any, args: Any, given: Mapping[str, Any]) -> None:
            read.append(int((given["input_ids"] if "input_ids" in given else args[0]).shape[1]))

        prompt = torch.tensor([ids], device=variant.device)
        settings: Mapping[str, object] = (
            {"eos_token_id": sorted(variant.eos_ids), "pad_token_id": min(variant.eos_ids)}
            if variant.eos_ids
            else {"pad_token_id": 0}
        )
        counting = variant.model.register_forward_pre_hook(count, with_kwargs=True)
        try:
            with torch.inference_mode():
                out = cast(Any, variant.model).generate(
                    prompt,
                    attention_mask=torch.ones_like(prompt),
                    do_sample=False,
                    max_new_tokens=max_new_tokens,
                    **settings,
                    **options,
                )
        finally:
            counting.remove()
        new = out[0, len(ids) :].tolist()
        proposed = sum(read) - len(ids) - (len(read) - 1)
        return new, Guesses(proposed, min(max(len(new) - len(read), 0), proposed))

    return generate
