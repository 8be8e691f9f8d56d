"""Engines a user would pick, each behind one function: requests in, numbers or texts out, in their order.

tiltmeter   the built-in engine over a folder
llama.cpp   a GGUF file of the same weights in float32, by tiltmeter's own backend: prefixes shared, 64 rows at once
vllm        `vllm.LLM` over the folder: float32, eager, prefix caching, whole batches of token ids

Each runs in the environment that has it, as a child that loads once and is then asked piece by piece (`serve`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared_data import linked
from benchmarks.speed_work import Work, all_work
from tiltmeter.registry import build
from tiltmeter.scoring.prompts import encode, renderer
from tiltmeter.scoring.requests import Generation, GenerationAnswer, OptionProbs, Request, SequenceAnswer
from tiltmeter.scoring.vocabulary import Forms

Found = list[float | str | None]
RUNS, QUAD = 40, 4  # of BBQ: the four rows of a question, from all over the file
CONTEXT = 2048


def real_work(shared: Path, tokenizer: Any, scale: float) -> list[Work]:
    """What the study asks of a model, without the artificial system prompt, and BBQ's quads."""
    bbq = build("benchmark", "bbq")
    render, _ = renderer("plain", tokenizer)
    items = bbq.load(linked(shared / "data"))
    runs = max(1, int(RUNS * scale))
    starts = [run * (len(items) // runs) // QUAD * QUAD for run in range(runs)]
    rows = [
        OptionProbs(request.prompt, tuple(forms[:1] for forms in request.options))
        for start in starts
        for item in items[start : start + QUAD]
        for request in bbq.requests(item, render, decoding="greedy", n_samples=1, seed=0)
    ]
    usual = [work for work in all_work(shared, tokenizer, scale) if "system prompt" not in work.name]
    return [Work(w.name, "engines", 1.3, w.requests) for w in (*usual, Work("BBQ options", "engines", 1.3, rows))]


def tiltmeter(source: str) -> Callable[[Sequence[Request]], Found]:
    """A folder in the built-in engine, a GGUF file in llama.cpp: as `tiltmeter run` asks them."""
    from benchmarks.engines import Asked
    from tiltmeter.study import make_study

    asked = Asked(make_study(models=[source], dtype="float32"))
    return lambda requests: [value for answer in asked.answers(requests)[0] for value in _values(answer)]


def _values(answer: Any) -> Found:
    if answer.error:
        raise SystemExit(f"unanswered: {answer.error}")
    if isinstance(answer, GenerationAnswer):
        return [answer.clean]
    return [answer.logprob] if isinstance(answer, SequenceAnswer) else [forms[0] for forms in answer.logprobs]


def vllm(source: str) -> Callable[[Sequence[Request]], Found]:
    """vLLM in this process; everything of one piece of work is handed over at once, as its users do."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1"}
    os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR"}
    from vllm import LLM, SamplingParams

    model = LLM(source, dtype="float32", enforce_eager=True, enable_prefix_caching=True, max_model_len=CONTEXT)
    tokenizer = model.get_tokenizer()
    forms = Forms(tokenizer.get_vocab())

    def ask(requests: Sequence[Request]) -> Found:
        model.reset_prefix_cache()  # of the round before, which asked the same
        prompts = [encode(tokenizer, r.prompt if not hasattr(r, "text") else r.text) for r in requests]
        settings = []
        for request in requests:
            if isinstance(request, Generation):
                sampled = {"temperature": request.temperature, "seed": request.seed % 2**31}
                settings.append(SamplingParams(max_tokens=request.max_new_tokens, detokenize=False, **sampled))
            elif isinstance(request, OptionProbs):
                ids = [i for form in forms.ids(request) for i in form[:1]]
                settings.append(SamplingParams(max_tokens=1, logprob_token_ids=ids, detokenize=False, temperature=0.0))
            else:
                settings.append(SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False, temperature=0.0))
        found: Found = []
        tokens = [{"prompt_token_ids": ids} for ids in prompts]
        for request, ids, each in zip(requests, prompts, model.generate(tokens, settings, use_tqdm=False), strict=True):
            if isinstance(request, Generation):
                found.append(tokenizer.decode(each.outputs[0].token_ids, skip_special_tokens=True))
            elif isinstance(request, OptionProbs):
                first = each.outputs[0].logprobs[0]
                found += [first[form[0]].logprob for form in forms.ids(request)]
            else:
                found.append(sum(at[i].logprob for i, at in zip(ids[1:], each.prompt_logprobs[1:], strict=True)))
        return found

    return ask


ENGINES = {"tiltmeter": tiltmeter, "llama.cpp": tiltmeter, "vllm": vllm}


def serve(engine: str, folder: str, source: str, shared: Path, scale: float) -> None:
    """Reads `NUMBER FILE` lines, answers that piece of work, writes {seconds of CPU and wall, answers} to the file."""
    import torch
    from transformers import AutoTokenizer

    threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    ask = ENGINES[engine](source)
    work = real_work(shared, AutoTokenizer.from_pretrained(folder), scale)
    for piece in work:
        ask(piece.requests[:2])  # self-test, kernels, lazily made buffers; no prompt of size is kept
    print("ready", flush=True)
    for line in sys.stdin:
        number, path = line.split(maxsplit=1)
        cpu, wall = time.process_time(), time.perf_counter()
        answers = ask(work[int(number)].requests)
        took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        Path(path.strip()).write_text(json.dumps(took | {"answers": answers}))
        print(f"answered {number}", flush=True)
