"""Answers written by hand, and a renderer that shows what it was given."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tiltmeter.scoring.requests import GenerationAnswer, OptionAnswer, Prompt, SequenceAnswer


def plain(prompt: Prompt) -> str:
    return prompt.plain


def chat(prompt: Prompt) -> str:
    """Every turn on show: [role] text, then the answer prefix as the real renderer puts it."""
    turns = "".join(f"[{role}]{text}" for role, text in prompt.messages)
    return f"{turns} {prompt.prefix}" if prompt.prefix else turns


def text(answer: str, clean: str | None = None, stopped: str = "eos") -> GenerationAnswer:
    clean = answer.replace("</s>", "") if clean is None else clean
    return GenerationAnswer(answer, clean, len(answer.split()), stopped)


def options(*probabilities: float | tuple[float | None, ...]) -> OptionAnswer:
    """Probability per option, or per surface form of an option (None: no such token)."""
    forms = [p if isinstance(p, tuple) else (p,) for p in probabilities]
    return OptionAnswer(tuple(tuple(None if p is None else math.log(p) for p in option) for option in forms), 10)


def sequence(logprob: float, n_tokens: int) -> SequenceAnswer:
    return SequenceAnswer(logprob, n_tokens)


def request(benchmark, item, render=plain, decoding="greedy", n_samples=1, seed=0):
    return benchmark.requests(item, render, decoding=decoding, n_samples=n_samples, seed=seed)


def golden_json(golden: Path, name: str):
    return json.loads((golden / name).read_text(encoding="utf-8"))
