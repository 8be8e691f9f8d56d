"""Assisted (speculative) decoding: cheap guesses, checked by the model itself. A null control.

Source      Leviathan et al. 2022, https://arxiv.org/abs/2211.17192; guesses by prompt lookup (Saxena 2023) or by
            a smaller model of the same tokenizer (`assistant`), by transformers' generate.
Changes     nothing that a greedy answer may show: its text must equal the base's. Where it does not, the
            decoding is broken, or two logits lie within rounding of each other; the proof says how often.
Applies     to greedy generation only; sampled answers and scores are computed as for the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.models.probes import TEXTS
from tiltmeter.models.reading import load_model, load_tokenizer, own_decoding
from tiltmeter.models.resolve import resolve
from tiltmeter.registry import register
from tiltmeter.strategies.base import Context, RequestKind, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


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
        cache = next((p for p in earlier if p.role == "cache" and p.settings.get("read") == "transformers"), None)
        return f"{cache.name}:read=transformers cannot take back a rejected guess" if cache else None

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        options: dict[str, Any] = {"prompt_lookup_num_tokens": self.guesses}
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
            options = {"assistant_model": helper}
        variant.generate = _decoder(variant, options)

    def prove(self, variant: LoadedVariant, context: Context) -> dict[str, Any]:
        assert variant.generate is not None
        plain = _decoder(variant, {})
        same = 0
        for text in TEXTS:
            ids = variant.tokenizer(text).input_ids[: variant.max_length // 2]
            room = min(32, variant.max_length - len(ids))
            same += variant.generate(ids, room) == plain(ids, room)
        if same < len(TEXTS):
            variant.notes.append(say("note.assisted_differs", same=same, n=len(TEXTS)))
        by = self.assistant or say("proof.prompt_lookup")
        return {
            "summary": say("proof.assisted", by=by, same=same, n=len(TEXTS)),
            "identical_probes": same,
            "probes": len(TEXTS),
        }

    def not_exercised(self, request_kind: RequestKind) -> Text | None:
        return None if request_kind == "generation" else say("idle.assisted_text")


def _decoder(variant: LoadedVariant, options: dict[str, Any]) -> Callable[[list[int], int], list[int]]:
    """(prompt ids, most new tokens) -> new ids, greedy, the end token included when it came."""

    def generate(ids: list[int], max_new_tokens: int) -> list[int]:
        import torch

        prompt = torch.tensor([ids], device=variant.device)
        settings: dict[str, Any] = (
            {"eos_token_id": sorted(variant.eos_ids), "pad_token_id": min(variant.eos_ids)}
            if variant.eos_ids
            else {"pad_token_id": 0}
        )
        with torch.inference_mode():
            out = cast(Any, variant.model).generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=False,
                max_new_tokens=max_new_tokens,
                **settings,
                **options,
            )
        return out[0, len(ids) :].tolist()  # type: ignore[no-any-return]

    return generate
