"""lm-evaluation-harness' own transformers class: slower than the built-in engine, and a second opinion about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiltmeter.backends.base import Answering, Identity
from tiltmeter.backends.transformers import Transformers
from tiltmeter.models.quiet import held_back
from tiltmeter.registry import register
from tiltmeter.scoring.requests import Answer, Generation

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.strategies.base import Strategy


@register("backend", "lm-eval-hf")
class LmEvalHf(Transformers):
    """Checkpoints loaded (and compressed, and proven) as by `transformers`, asked through `lm_eval`'s ``HFLM``.

    Sampling is transformers' own, seeded by each request's seed. KV-cache strategies, speculative decoding and whatever
    else acts outside a model's weights are refused: ``HFLM`` makes its own forward and its own cache.
    """

    about = "the same models through lm-evaluation-harness' HFLM: slow, for checking the built-in engine against it"
    runs_on = "CPU, GPU"
    source = "lm_eval, transformers"

    def check(self) -> None:
        from tiltmeter.backends._lm_eval import lm_class

        self.refuse(_acts_outside_weights, "leave out --backend lm-eval-hf: the built-in engine runs it")
        lm_class("hf")
        super().check()

    def identity(self, source: str) -> Identity:
        known = super().identity(source)
        return Identity(known.tokenizer, known.weight_hash, known.dtype, {"backend": "lm-eval-hf"})

    def engine(self, variant: LoadedVariant, batch_tokens: int) -> Answering:
        import torch

        from tiltmeter.backends._lm_eval import LmEvalEngine, lm_class, made
        from tiltmeter.scoring import reference

        class Hf(LmEvalEngine):
            def write(self, prompts: Sequence[list[int]], requests: Sequence[Generation]) -> list[Answer]:
                return [self._written(*each) for each in zip(prompts, requests, strict=True)]

            def _written(self, prompt: list[int], request: Generation) -> Answer:
                ids = torch.tensor([prompt], device=self.variant.device)
                sampling = {"temperature": request.temperature, "do_sample": True, "top_p": request.top_p, "top_k": 0}
                torch.manual_seed(request.seed)
                written = self.lm._model_generate(
                    context=ids,
                    attention_mask=torch.ones_like(ids),
                    stop=[],
                    max_length=len(prompt) + request.max_new_tokens,
                    **(sampling if request.temperature else {}),
                )
                return reference.generation_answer(self.variant, request, written[0, len(prompt) :].tolist())

        with held_back():
            lm = made(
                lm_class("hf"),
                "--backend lm-eval-hf",
                pretrained=variant.model,
                tokenizer=variant.tokenizer,
                backend="causal",
                max_length=variant.max_length,
                batch_size=8,
            )
        return Hf(variant, lm, batch_tokens=batch_tokens)


def _acts_outside_weights(part: Strategy) -> str | None:
    return f"{part.name} acts outside the model's weights" if part.acts_on in ("cache", "decoding") else None
