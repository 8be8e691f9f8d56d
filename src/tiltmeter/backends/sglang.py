"""SGLang in this process, through lm-evaluation-harness' ``SGLangLM`` class.

Not run here: neither SGLang nor a GPU was at hand. Tests run lm-eval's class over a stand-in for the `sglang` package
that answers from a real model, so what is tested is what is asked and how answers are read, not SGLang.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.backends._folders import LoadsFolders
from tiltmeter.messages import Message
from tiltmeter.registry import register

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.scoring.requests import Answer, Generation

UNSEEDED = Message("served.unseeded")


@register("backend", "sglang")
class SGLang(LoadsFolders):
    """Greedy text and log-probabilities are SGLang's; sampling is its own and takes no seed per request."""

    about = "checkpoints, compressed or not, in SGLang (not run here: real code, tested with a stand-in)"
    runs_on = "GPU"
    source = "lm_eval (sglang)"
    package = "sglang"

    def settings(self, checkpoint: Path, tokenizer: Path, dtype: str) -> dict[str, Any]:
        return {
            "pretrained": str(checkpoint),
            "tokenizer_path": str(tokenizer),
            "dtype": dtype,
            "batch_size": "auto",
            "trust_remote_code": False,
            "random_seed": self.study.seed % 2**31,
        }

    def asking(self, variant: LoadedVariant, lm: Any, batch_tokens: int) -> Any:
        from tiltmeter.backends._lm_eval import LmEvalEngine
        from tiltmeter.scoring.reference import generation_answer

        class Asking(LmEvalEngine):
            sampling = UNSEEDED

            def write(self, prompts: Sequence[list[int]], requests: Sequence[Generation]) -> list[Answer]:
                settings = [
                    {
                        "max_new_tokens": request.max_new_tokens,
                        "temperature": request.temperature,
                        "top_p": request.top_p,
                        "stop_token_ids": sorted(self.variant.eos_ids),
                    }
                    for request in requests
                ]
                written = self.lm._model_generate(list(prompts), generate=True, sampling_params=settings)
                return [
                    generation_answer(self.variant, request, _ids(each))
                    for request, each in zip(requests, written, strict=True)
                ]

        return Asking(variant, lm, batch_tokens=batch_tokens)


def _ids(written: dict[str, Any]) -> list[int]:
    """The new ids, the end token included: some versions leave it out and name it as what was matched."""
    ids = list(written["output_ids"])
    end = (written["meta_info"].get("finish_reason") or {}).get("matched")
    return ids if not isinstance(end, int) or ids[-1:] == [end] else [*ids, end]
