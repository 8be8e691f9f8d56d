"""Switching blocks of one quantized model: the same logits as making each candidate anew."""

import pytest
import torch

from tiltmeter.errors import UserError
from tiltmeter.strategies.chain import parse
from tiltmeter.strategies.live_blocks import LiveBlocks, live_blocks
from tiltmeter.variants import apply

IDS = torch.tensor([[1, 80, 147, 201, 282, 81, 286, 1132, 80, 147, 300, 12]])


def live(model: str, strategy: str) -> LiveBlocks:
    return live_blocks(parse(strategy), apply.context_for(model, parse(strategy)))


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS, use_cache=False).logits


@pytest.mark.parametrize("strategy", ["w4a16", "fp8"])  # weights alone; activations too
def test_a_switched_block_gives_the_logits_of_keep(stories, strategy):
    switched = live(stories, strategy)
    quantized = logits(switched.model)
    for kept in ({0}, {1}, {0, 1}, set()):
        switched.keep(kept)
        text = f"{strategy}:keep={'+'.join(map(str, kept))}" if len(kept) == 1 else strategy if not kept else "none"
        expected = logits(apply.load(stories, parse(text)).model)
        torch.testing.assert_close(logits(switched.model), expected, rtol=0, atol=1e-4)
    assert torch.equal(logits(switched.model), quantized)


@pytest.mark.parametrize("strategy", ["gptq", "awq", "int4", "w4a16+kv4", "w4a16:keep=0", "none"])
def test_what_switching_would_only_approximate_is_refused(stories, strategy):
    with pytest.raises(UserError, match="looks at no text"):
        live(stories, strategy)


def test_a_block_that_is_not_there_is_named(stories):
    with pytest.raises(UserError, match="no block 2"):
        live(stories, "w4a16").keep({2})
