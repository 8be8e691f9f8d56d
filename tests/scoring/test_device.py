"""What a GPU asks of the engine, as far as a machine without one can show it."""

from __future__ import annotations

import gc
import weakref
from collections import deque

import numpy as np
import pytest
import torch
from tiny_models import tiny_model, tiny_variant

from tiltmeter.errors import UserError
from tiltmeter.runs.loading import Loader
from tiltmeter.runs.progress import Silent
from tiltmeter.schema import RunRecord
from tiltmeter.scoring import budget, device, reference
from tiltmeter.scoring.budget import bytes_of_keys, decode_rows
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.kernels import attention
from tiltmeter.scoring.plan import plan
from tiltmeter.scoring.requests import Generation, OptionProbs
from tiltmeter.scoring.sampling import choose_token
from tiltmeter.scoring.selftest import choose_scorer, choose_writer
from tiltmeter.scoring.trees import room
from tiltmeter.scoring.writing import choose_tokens
from tiltmeter.study import VariantSpec, make_study


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The branches that a GPU takes, with its matrix product from bfloat16 to float32 done in float32."""
    monkeypatch.setattr(attention, "FUSED_WITH_LOGSUMEXP", frozenset())
    monkeypatch.setattr(attention, "ROUNDS_PRODUCTS", frozenset())
    monkeypatch.setattr(room, "KEY_MULTIPLE", {})
    bmm = torch.bmm

    def exact(one, other, out_dtype=None):
        return bmm(one.to(out_dtype), other.to(out_dtype)) if out_dtype else bmm(one, other)

    monkeypatch.setattr(torch, "bmm", exact)


@pytest.mark.parametrize("factor", [1, 8, 24])
def test_bfloat16_never_goes_one_request_at_a_time_however_large_its_logits(factor, as_on_a_gpu):
    """A logit between 32 and 64 has a unit of rounding of 0.25 nats: one unit alone was more than was trusted."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight.mul_(factor)
    variant = tiny_variant(model=model.to(torch.bfloat16), dtype="bfloat16")
    for choose in (choose_scorer, choose_writer):
        choice = choose(variant)
        assert str(choice.method.name) == "prefix trees"
        assert "because of the faster ways" not in "".join(map(str, choice.notes))


def test_a_variant_whose_batches_mix_its_requests_still_goes_one_at_a_time():
    """One activation scale for a whole forward, as dynamic int8 has, in a model whose own rounding is fine."""
    model = tiny_model("llama")

    def quantize(_module, inputs):
        scale = inputs[0].abs().max() / 3  # seven levels
        return ((inputs[0] / scale).round() * scale,)

    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(quantize)
    choice = choose_scorer(tiny_variant(model=model))
    assert str(choice.method.name) == "one request at a time"


def test_attention_as_on_a_gpu_gives_the_references_texts(as_on_a_gpu):
    prompts = [f"You answer every question as briefly as you can. {tail}" for tail in ("Who?", "Why is it?", "Where")]
    requests = [
        Generation(prompt, 9 + n, 1.0, 1.0, 7 * n + seed) for n, prompt in enumerate(prompts) for seed in (1, 2)
    ]
    for name in ("llama", "mistral-window", "gemma3"):
        variant = tiny_variant(name)
        assert Engine(variant, batch_tokens=32).answer(requests) == [reference.answer(variant, r) for r in requests]


def test_sampling_on_the_device_is_certain_even_of_flat_distributions_over_128_thousand_ids():
    """With float32 block sums a quarter of these draws lay too near a boundary and went to the host."""
    rng = np.random.Generator(np.random.PCG64(3))
    logits = rng.normal(0, 1.28, (48, 128_256)).astype(np.float32)
    draws, ones = rng.random(48), np.ones(48)
    asked = []

    def host(*arguments):
        asked.append(arguments)
        return choose_token(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiltmeter.scoring.writing.choose_token", host)
        found = choose_tokens(torch.from_numpy(logits), ones, ones, draws, torch.from_numpy(logits.max(-1)))
    assert asked == []
    assert found == [choose_token(row, 1.0, 1.0, draw) for row, draw in zip(logits, draws, strict=True)]


def test_a_gpus_attention_makes_no_plan_per_shape_and_its_products_are_not_rounded(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", calls.append)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        device.prepare("cpu")
        assert calls == [] and torch.backends.cuda.matmul.allow_tf32
        device.prepare("cuda:1")
        assert calls == [False] and not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_rows_on_a_gpu_follow_from_the_card_and_the_model_not_from_the_budget(monkeypatch):
    variant = tiny_variant(device="cuda")
    weights = sum(parameter.nbytes for parameter in variant.model.parameters())
    row = 512 * bytes_of_keys(variant)
    # 55 % of what the weights leave holds 300 rows: 256; with room for 5,000, the most there are
    for rows, expected in ((300, 256), (5000, 1024), (0, 1)):
        monkeypatch.setattr(budget, "total_bytes", lambda _device, rows=rows: weights + int(rows * row / 0.55) + 1)
        assert {decode_rows(variant, tokens) for tokens in (64, 4096)} == {expected}
    on_cpu = tiny_variant()
    assert [decode_rows(on_cpu, tokens) for tokens in (4, 512, 2048)] == [1, 64, 128]


def test_the_plan_of_generations_follows_the_rows_and_that_of_scores_the_budget():
    tokens = [[1, *f"prompt {n}".encode()] for n in range(64)]
    assert len(plan([Generation] * 64, tokens, 32, rows=16)) == 2  # twice sixteen rows make a batch
    assert plan([OptionProbs] * 64, tokens, 32, rows=16) == plan([OptionProbs] * 64, tokens, 32)


@pytest.mark.parametrize(
    ("error", "memory", "lost"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True, False),
        (RuntimeError("CUDA error: out of memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("shape mismatch"), False, False),
        (ValueError("CUDA error"), False, False),
    ],
)
def test_errors_of_a_device_are_told_apart(error, memory, lost):
    assert (device.is_out_of_memory(error), device.is_lost(error)) == (memory, lost)


def test_a_lost_device_ends_the_self_test_and_is_no_reason_to_fall_back(monkeypatch):
    variant = tiny_variant()

    def broken(*_args, **_kwargs):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("tiltmeter.scoring.trees.tree_model.TreeModel.run", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        choose_scorer(variant)


def test_strict_mode_raises_what_would_make_the_engine_slower(monkeypatch):
    monkeypatch.setenv(device.STRICT, "1")
    assert str(choose_scorer(tiny_variant()).method.name) == "prefix trees"
    with pytest.raises(Exception, match=r"kind|mask|layers"):
        choose_scorer(tiny_variant("mamba"))
    monkeypatch.setattr("tiltmeter.scoring.selftest._score_difference", lambda forked, method: 9.0)
    with pytest.raises(RuntimeError, match="differ by 9"):
        choose_scorer(tiny_variant())


SPEC = VariantSpec(model="m", strategy="none", source="m")


class Batch:
    """Stands for what one batch holds: logits, keys and values."""


class Cramped:
    """An engine that runs out of memory over more than one request, and says what earlier batches still hold then."""

    def __init__(self):
        self.held, self.alive = [], []
        self.stats = Engine(tiny_variant(), batch_tokens=8).stats
        self.notes = []
        self.outcomes = {}

    def answer(self, requests):
        gc.collect()
        self.alive.append(sum(reference() is not None for reference in self.held))
        store = Batch()
        self.held.append(weakref.ref(store))
        return self.compute(requests, store)

    def compute(self, requests, store):
        if len(requests) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(requests)


def loader_with(engine, monkeypatch):
    loader = Loader(make_study(models=["m"]), RunRecord(), None, Silent())
    monkeypatch.setattr(Loader, "engine", lambda self, spec: engine)
    monkeypatch.setattr(Loader, "_remember_methods", lambda self, spec, engine: None)
    return loader


def test_a_batch_that_ran_out_of_memory_holds_nothing_while_its_halves_are_computed(monkeypatch):
    engine = Cramped()
    queue = deque([[1, 2, 3, 4]])
    loader = loader_with(engine, monkeypatch)
    answered = []
    for batch, found in loader.answers(SPEC, queue, lambda batch: batch):
        if isinstance(found, Exception):
            assert device.is_out_of_memory(found)
            queue.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
        else:
            answered += found.answers
    assert answered == [1, 2, 3, 4]
    assert engine.alive == [0] * 7


def test_a_lost_device_ends_the_run_with_what_to_do(monkeypatch):
    class Lost(Cramped):
        def compute(self, requests, store):
            raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(UserError, match="stopped working") as stopped:
        list(loader_with(Lost(), monkeypatch).answers(SPEC, deque([[1]]), lambda batch: batch))
    assert "same command again" in stopped.value.fix


def test_what_a_batch_freed_leaves_the_process_and_what_lives_is_untouched():
    kept = torch.ones(1000)
    freed = [torch.ones(2**20) for _ in range(64)]  # 256 MiB in pieces that the heap keeps
    between = torch.ones(1000)
    del freed
    device.give_back("cpu")
    assert kept.sum() == between.sum() == 1000


@pytest.mark.parametrize("where", ["cuda", "cuda:1", "served"])
def test_elsewhere_nothing_is_given_back(monkeypatch, where):
    asked = []
    monkeypatch.setattr(device.ctypes, "CDLL", asked.append)
    device.give_back(where)
    assert asked == []
