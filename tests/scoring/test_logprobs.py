"""Log-probabilities at the vocabularies of real models: no bias that grows with the vocabulary, in any method."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import COMMON, tiny_variant
from transformers import LlamaConfig, LlamaForCausalLM

import tiltmeter
from tiltmeter.scoring import reference
from tiltmeter.scoring.logprobs import logprobs_of, normalizers
from tiltmeter.scoring.methods import Padded, Trees
from tiltmeter.scoring.selftest import TOLERANCE_NATS, choose_scorer, choose_writer, forked_prompts

VOCABULARIES = (49_152, 131_072, 262_144)  # SmolLM2, Llama 3 and Mistral-Nemo (about), Gemma 3


@cache
def variant_of(vocabulary: int):
    """A random model of one layer whose logits have a standard deviation near 3, where float32 softmax errs most."""
    torch.manual_seed(0)
    sizes = {**COMMON, "vocab_size": vocabulary, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(3 / (32**0.5 * COMMON["initializer_range"]))  # 32 hidden values of size 1
    return tiny_variant(model=model, max_length=48)  # self-tests of short prompts


def in_float64(variant, sequences, options):
    """Sums over sequences and log-probabilities of options, one at a time, weights and arithmetic in float64."""
    model = deepcopy(variant.model).double()
    sums, found = [], []
    with torch.inference_mode():
        for ids, asked in zip(sequences, options, strict=True):
            logprobs = model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
            sums.append(sum(float(logprobs[place, token]) for place, token in enumerate(ids[1:])))
            found.append([float(logprobs[-1, token]) for token in asked])
    return np.array(sums), np.array(found)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_every_method_is_within_the_tolerance_of_a_float64_loop(vocabulary):
    """1e-4 nats in 32 tokens: float32 `log_softmax` is 3e-4 too high there at 131,072 ids, 9e-4 at 262,144."""
    variant = variant_of(vocabulary)
    prompts = forked_prompts(variant)[::3]
    options = [prompt[:3] for prompt in prompts]
    sums, found = in_float64(variant, prompts, options)
    with torch.inference_mode():
        one = [reference.sequence_logprob(variant, prompt) for prompt in prompts]
        each = [reference.option_logprobs(variant, *asked) for asked in zip(prompts, options, strict=True)]
        answers = [(one, each)]
        for method in (Trees(variant, sparse=True), Padded(variant)):
            answers.append((method.sequence_logprobs(prompts, 64), method.option_logprobs(prompts, options, 64)))
    for of_sequences, of_options in answers:
        per_32_tokens = np.subtract(of_sequences, sums) / [max(1, len(prompt) / 32) for prompt in prompts]
        assert np.abs(per_32_tokens).max() < TOLERANCE_NATS
        assert np.abs(np.subtract(of_options, found)).max() < TOLERANCE_NATS


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_trees_are_taken_without_a_note_at_every_vocabulary(vocabulary):
    for choose in (choose_scorer, choose_writer):
        choice = choose(variant_of(vocabulary))
        assert (str(choice.method.name), choice.notes) == ("prefix trees", ())


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_the_normalizer_has_no_bias(vocabulary):
    logits = 3 * torch.randn(32, vocabulary, generator=torch.Generator().manual_seed(0))
    exact = logits.double().logsumexp(-1)
    assert float((normalizers(logits, torch.float64) - exact).abs().max()) < 1e-12
    # a rounding of a value near 17 is 1e-6; their mean over 32 rows is far smaller, a bias is not
    assert float((normalizers(logits) - exact).mean().abs()) < 1e-6


def test_logprobs_are_those_of_a_softmax_by_hand():
    logits = torch.tensor([[0.1, 0.4, 0.5], [0.25, 0.25, 0.5]]).log()
    assert logprobs_of(logits, torch.tensor([1, 2])).exp().tolist() == pytest.approx([0.4, 0.5])


def test_nothing_that_is_measured_uses_torchs_float32_log_softmax():
    """Training may: a bias of 1e-5 nats is no concern of a gradient."""
    sources = [path for path in Path(tiltmeter.__file__).parent.rglob("*.py") if "training" not in path.parts]
    assert len(sources) > 50
    uses = [path.name for path in sources if re.search(r"\.log_softmax\(|cross_entropy\(", path.read_text("utf-8"))]
    assert uses == []
