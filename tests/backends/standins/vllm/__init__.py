"""A stand-in for vLLM: the names that lm-evaluation-harness and tiltmeter use, answered by `scoring.reference`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch

from tiltmeter.models import reading
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import Generation
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

MADE: list[dict] = []  # arguments of every LLM


@dataclass
class SamplingParams:
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    detokenize: bool = True
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None


def TokensPrompt(prompt_token_ids: list[int]) -> dict:
    return {"prompt_token_ids": prompt_token_ids}


class LLM:
    def __init__(self, **settings: object) -> None:
        MADE.append(settings)
        folder, tokenizer = str(settings["model"]), str(settings["tokenizer"])
        self.variant = apply.load(tokenizer, parse("none"))
        self.variant.model = reading.load_model(Path(folder), str(settings["dtype"]), "cpu")
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=self.variant.max_length))

    @torch.inference_mode()
    def generate(self, prompts: list[dict], sampling_params: list[SamplingParams], **_: object) -> list[object]:
        return [self._one(prompt["prompt_token_ids"], each) for prompt, each in zip(prompts, sampling_params)]

    def _one(self, ids: list[int], settings: SamplingParams) -> object:
        assert len(ids) + settings.max_tokens <= self.variant.max_length, "vLLM would refuse this"
        if settings.prompt_logprobs is not None:
            logits = self.variant.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            scores = [None, *({token: float(logits[place, token])} for place, token in enumerate(ids[1:]))]
            return SimpleNamespace(prompt_logprobs=scores)
        if settings.logprob_token_ids is not None:
            asked = settings.logprob_token_ids
            found = reference.option_logprobs(self.variant, ids, asked)
            logprobs = [{token: SimpleNamespace(logprob=value) for token, value in zip(asked, found)}]
            return SimpleNamespace(outputs=[SimpleNamespace(token_ids=(0,), logprobs=logprobs)])
        self.variant.eos_ids = frozenset(settings.stop_token_ids or ())
        new = reference.new_ids(
            self.variant,
            ids,
            Generation("", settings.max_tokens, settings.temperature, settings.top_p, settings.seed or 0),
        )
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(new), text="", finish_reason="stop")])
