"""Every strategy and many chains on the study's three architectures and a trained model: each acts, reloads exactly,
answers all three request kinds, and the engine agrees with the reference under the same variant. The quick part runs
everything once on the trained model and a few on each architecture; `-m slow` runs the whole product."""

import pytest

from tiltmeter.registry import known
from tiltmeter.scoring import reference
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.requests import Generation, OptionProbs, SequenceLogprob
from tiltmeter.strategies.chain import Chain, parse
from tiltmeter.variants import apply

QUICK = "samples=2,length=32"
REQUESTS = [
    SequenceLogprob("Once upon a time there was a little girl."),
    SequenceLogprob("Once upon a time there was a little dog who liked to run."),
    SequenceLogprob("The old man lived near the forest."),
    OptionProbs("Lily and Tom went to the park. They were very", (("h",), ("s",))),
    OptionProbs("Lily and Tom went to the shop. They were not", (("h",), ("s",))),
    Generation("Once upon a time there was", 12),
    Generation("One day Tom", 12, temperature=1.0, seed=5),
]
SINGLES = [
    "none",
    "int8",
    "int4",
    "int4:type=nf4",
    "awq",
    "gptq",
    "w4a16",
    "w8a8",
    "w8a8:smooth=0.8",
    "fp8",
    "wanda",
    "wanda-2:4",
    "sparsegpt",
    "sparsegpt-2:4",
    "magnitude",
    "kv8",
    "kv4",
    "kv-fp8",
    "kv-fp8:scale=calibrated",
    "kv-fp4:per=head",
    "fp8-block",
    "nvfp4",
    "mxfp4a16",
    "w4a16:keep=1",
    "drop-layers",
    "torchao-int8",
    "kv8:read=transformers",
    "kv4:read=transformers",
    "dynamic-int8",
    "dtype:bfloat16",
    "rerun",
    "assisted",
]
MORE = [  # one method with those above: in the quick suite test_presets makes them, and reads them back
    "autoround:iters=1",
    "fp8-static",
    "nvfp4a16",
    "mxfp4",
    "mxfp8",
    "w8a16",
    "w4a8",
    "w4afp8",
    "smoothquant",
    "kv-fp8:scale=calibrated,per=head",
    "kv-fp4",
    "w4a16:bits=3",
    "gptq:keep=down_proj",
    "torchao-int8:compile=layers",
]
CHAINS = [
    "wanda-2:4+nvfp4a16",
    "drop-layers+fp8-block+kv-fp8",
    "int4+kv4",
    "int8+kv8",
    "wanda-2:4+int4+kv4",
    "awq+kv8",
    "kv4+awq",
    "gptq+kv4",
    "wanda+int8",
    "sparsegpt-2:4+fp8",
    "magnitude+w8a8+kv8",
    "dtype:bfloat16+int4:type=nf4",
    "wanda-2:4+w4a16+kv4",
    "int4+kv4:read=transformers",
    "int8+rerun",
    "kv4+int4+assisted",
]
MORE_CHAINS = [
    "drop-layers+autoround:iters=1",
    "w4a16:keep=0+kv-fp4",
    "sparsegpt-2:4+mxfp4",
    "magnitude+w4afp8",
    "w8a16+assisted",
    "dtype:bfloat16+nvfp4",
    "torchao-int8+kv8",
    "w4a8+rerun",
]
BATCH_DEPENDENT = ("int8", "dynamic-int8")  # outlier columns, one scale per forward


def quick(text: str) -> Chain:
    """The chain with the smallest calibration."""
    parts = []
    for part in text.split("+"):
        if parse(part).calibrated:
            part += ("," if "=" in part else ":") + QUICK
        parts.append(part)
    return parse("+".join(parts))


def check(folder: str, text: str, *, engine_too: bool) -> None:
    if "torchao" in text:
        pytest.importorskip("torchao")
    chain = quick(text)
    variant = apply.load(folder, chain)
    slow = [reference.answer(variant, request) for request in REQUESTS]
    assert all(answer.error is None for answer in slow)

    again = apply.load(folder, chain)  # compressed weights and scales come from the cache this time
    assert [reference.answer(again, request) for request in REQUESTS] == slow
    if chain.parts and all(part.role in ("dtype", "structure", "pruning", "weights", "cache") for part in chain.parts):
        assert variant.proof["largest_logit_change"] > 0
        assert all(step["summary"] for step in variant.proof["steps"].values())

    apart = {part.name for part in chain.parts}.isdisjoint(BATCH_DEPENDENT)
    if engine_too and apart and variant.dtype != "bfloat16":  # whose last bits differ with the batch
        check_engine(variant, chain, slow)


def check_engine(variant, chain: Chain, slow: list) -> None:
    """What rounds the numbers it reads can turn a last bit into a whole rounding step, here of at most 0.5 nats."""
    text = chain.canonical
    rounds = "read=transformers" not in text and any(p.rounds_activations or p.role == "cache" for p in chain.parts)
    bound = 0.5 if rounds else 1e-4
    engine = Engine(variant)
    for batch in engine.plan(REQUESTS):
        for index, fast in zip(batch, engine.answer([REQUESTS[i] for i in batch]), strict=True):
            definition = slow[index]
            if isinstance(REQUESTS[index], Generation):
                assert rounds or fast == definition, (text, index)
            else:
                assert numbers(fast) == pytest.approx(numbers(definition), abs=bound), (text, index)


def numbers(answer) -> list[float]:
    """All log-probabilities of an answer (nats)."""
    return [answer.logprob] if hasattr(answer, "logprob") else [form for forms in answer.logprobs for form in forms]


def test_the_matrix_holds_every_registered_strategy():
    tested = {part.name for text in SINGLES + MORE for part in quick(text).parts}
    elsewhere = {name for name, cls in known("strategy").items() if cls.library == "llama.cpp"}  # tests/backends
    elsewhere.add("reap")  # of mixtures, which these models are not: test_structure
    assert tested | {"none"} | elsewhere == set(known("strategy"))
    assert len(CHAINS) >= 10


FEW = [
    "fp8-block",
    "kv-fp4:per=head",
    "torchao-int8",
    "int4",
    "awq",
    "gptq",
    "wanda-2:4",
    "kv4",
    "int4+kv4",
    "kv4:read=transformers",
]


@pytest.mark.parametrize("strategy", SINGLES + CHAINS)
def test_on_a_trained_model(stories, strategy):
    check(stories, strategy, engine_too=strategy in FEW)


@pytest.mark.parametrize("strategy", ["awq", "sparsegpt", "int4+kv4", "wanda-2:4+int4+kv4"])
@pytest.mark.parametrize("kind", ["llama-2", "llama-3.1", "mistral"])
def test_on_the_studys_architectures(tiny, kind, strategy):
    check(tiny(kind), strategy, engine_too=False)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", SINGLES + MORE + CHAINS + MORE_CHAINS)
@pytest.mark.parametrize("kind", ["trained", "llama-2", "llama-3.1", "mistral"])
def test_the_whole_product(tiny, stories, kind, strategy):
    check(stories if kind == "trained" else tiny(kind), strategy, engine_too=True)
