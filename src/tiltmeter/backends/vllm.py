"""vLLM in this process, through lm-evaluation-harness' ``VLLM`` class.

Run here on a CPU, in an environment of its own (`make engines-test`; docs/endpoints.md has the figures), not on a GPU.
CI runs lm-eval's class over a stand-in for the `vllm` package that answers from a real model: what is tested there is
what is asked and how answers are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.backends._folders import LoadsFolders
from tiltmeter.registry import register

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.scoring.requests import Answer, Generation, OptionProbs


@register("backend", "vllm")
class VLLM(LoadsFolders):
    """Greedy text and log-probabilities are vLLM's; sampling is its own, seeded per request."""

    about = "checkpoints, compressed or not, in vLLM (run here on a CPU)"
    runs_on = "GPU"
    source = "lm_eval (vllm)"
    package = "vllm"

    def settings(self, checkpoint: Path, tokenizer: Path, dtype: str) -> dict[str, Any]:
        return {
            "pretrained": str(checkpoint),
            "tokenizer": str(tokenizer),
            "dtype": dtype,
            "batch_size": "auto",
            "trust_remote_code": False,
            "seed": self.study.seed % 2**31,
        }

    def asking(self, variant: LoadedVariant, lm: Any, batch_tokens: int) -> Any:
        from vllm import SamplingParams

        from tiltmeter.backends._lm_eval import SEEDS, LmEvalEngine
        from tiltmeter.scoring.reference import generation_answer, option_answer

        class Asking(LmEvalEngine):
            def _options(self, requests: list[OptionProbs], tokens: list[list[int]]) -> list[Answer]:
                """One request per question, the log-probabilities of its forms by their ids (a present vLLM)."""
                if getattr(SamplingParams, "logprob_token_ids", None) is None:
                    return super()._options(requests, tokens)
                asked = [[i for ids in self._forms.ids(request) for i in ids if i is not None] for request in requests]
                settings = [
                    SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=ids, detokenize=False)
                    for ids in asked
                ]
                self.stats.tokens_computed += sum(len(prompt) + 1 for prompt in tokens)
                found = self.lm._model_generate(list(tokens), generate=True, sampling_params=settings)
                return [
                    option_answer(
                        request, self._forms, len(prompt), [each.outputs[0].logprobs[0][i].logprob for i in ids]
                    )
                    for request, prompt, ids, each in zip(requests, tokens, asked, found, strict=True)
                ]

            def write(self, prompts: Sequence[list[int]], requests: Sequence[Generation]) -> list[Answer]:
                settings = [
                    SamplingParams(
                        max_tokens=request.max_new_tokens,
                        temperature=request.temperature,
                        top_p=request.top_p,
                        seed=request.seed % SEEDS,
                        detokenize=False,
                        stop_token_ids=sorted(self.variant.eos_ids),
                    )
                    for request in requests
                ]
                written = self.lm._model_generate(list(prompts), generate=True, sampling_params=settings)
                return [
                    generation_answer(self.variant, request, list(each.outputs[0].token_ids))
                    for request, each in zip(requests, written, strict=True)
                ]

        return Asking(variant, lm, batch_tokens=batch_tokens)
