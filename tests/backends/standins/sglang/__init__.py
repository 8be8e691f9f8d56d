"""A stand-in for SGLang: the names that lm-evaluation-harness uses, answered by `scoring.reference`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from tiltmeter.models import reading
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import Generation
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

MADE: list[dict] = []  # arguments of every Engine


class Engine:
    def __init__(self, **settings: object) -> None:
        MADE.append(settings)
        self.stopped = False
        self.variant = apply.load(str(settings["tokenizer_path"]), parse("none"))
        self.variant.model = reading.load_model(Path(settings["model_path"]), str(settings["dtype"]), "cpu")
        self.tokenizer_manager = SimpleNamespace(tokenizer=self.variant.tokenizer, context_len=self.variant.max_length)

    def shutdown(self) -> None:
        self.stopped = True

    @torch.inference_mode()
    def generate(
        self, input_ids: list[list[int]], sampling_params: list[dict], return_logprob: bool = False, **_: object
    ) -> list[dict]:
        return [self._one(ids, each, return_logprob) for ids, each in zip(input_ids, sampling_params)]

    def _one(self, ids: list[int], settings: dict, scores: bool) -> dict:
        if scores:
            logits = self.variant.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            rows = [(None, ids[0], None), *((float(logits[i, t]), t, None) for i, t in enumerate(ids[1:]))]
            return {"meta_info": {"input_token_logprobs": rows, "input_top_logprobs": [None] * len(rows)}}
        self.variant.eos_ids = frozenset(settings["stop_token_ids"])
        new = reference.new_ids(
            self.variant, ids, Generation("", settings["max_new_tokens"], settings["temperature"], settings["top_p"])
        )
        ended = new[-1] in self.variant.eos_ids
        reason = {"type": "stop", "matched": new[-1]} if ended else {"type": "length"}
        return {"text": "", "output_ids": new[:-1] if ended else new, "meta_info": {"finish_reason": reason}}
