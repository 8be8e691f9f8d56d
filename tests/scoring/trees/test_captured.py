"""Captured decoding. On a CPU a stand-in for the graph replays the step itself: what is captured, what the host does
around it and what texts come out are the same code as on a card."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import tiny_model, tiny_variant
from torch.utils._python_dispatch import TorchDispatchMode

from tiltmeter.scoring import methods, reference, selftest
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.methods import NAMES, Trees
from tiltmeter.scoring.requests import Generation
from tiltmeter.scoring.trees import captured
from tiltmeter.scoring.trees.captured import STEPS, Burst, Kind
from tiltmeter.scoring.trees.decode_store import DecodeStore
from tiltmeter.scoring.trees.room import Room
from tiltmeter.scoring.trees.tree_model import TreeModel, windows_of_layers
from tiltmeter.scoring.writing import Writing

TEXT = (
    "The nurse asked the doctor whether the patient who came in yesterday should be given the bed next to the window."
)
READS = {"_local_scalar_dense", "nonzero", "masked_select", "unique2", "_unique2", "is_nonzero", "equal"}


class NoHost(TorchDispatchMode):
    """Whatever would make the host wait for a value raises."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function.name().removeprefix("aten::").partition(".")[0] in READS:
            raise AssertionError(f"the host reads a value: {function.name()}")
        return function(*arguments, **(named or {}))


class Watched:
    """The stand-in for CUDA graphs: replays the step itself, and counts."""

    def __init__(self):
        self.captures = self.replays = 0

    def capture(self, step):
        self.captures += 1

        def replay():
            self.replays += 1
            with NoHost():
                step()

        return replay


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def graphs(monkeypatch):
    """All captured steps of a test, under watch, in an engine that believes it could capture."""
    watched = Watched()
    monkeypatch.setattr(captured, "graphs_for", lambda device: watched)
    monkeypatch.setattr(methods, "decodings", lambda variant: ["captured", "kernel", "parts"])
    monkeypatch.setattr(selftest, "decodings", lambda variant: ["captured", "kernel", "parts"])
    return watched


def prompts():
    """Beginnings of one text of many lengths, two that share a long beginning, one alone."""
    return [TEXT[:length] for length in (3, 9, 20, 34, 35, 60)] + [TEXT[:80] + " yes", TEXT[:80] + " no", "Apples"]


def asked(new=14):
    """Greedy texts with limits that are no multiples of a burst, and five samples of three prompts."""
    found = [Generation(prompt, new - place) for place, prompt in enumerate(prompts())]
    for place, prompt in enumerate(prompts()[2:7:2]):
        heat, mass = ((1.0, 1.0), (0.7, 1.0), (1.3, 0.8))[place]
        found += [Generation(prompt, new, heat, mass, seed) for seed in range(5)]
    return found


def settled(variant, requests, batch_tokens=64):
    """What an engine answers and chose."""
    engine = Engine(variant, batch_tokens=batch_tokens)
    return engine.answer(requests), engine


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma2", "gpt2"])
def test_texts_are_the_reference_s_greedy_and_sampled(name, graphs):
    variant = tiny_variant(name)
    found, engine = settled(variant, asked())
    assert engine.outcomes["generation"] == {"method": str(NAMES["captured"]), "notes": []}
    assert found == [reference.answer(variant, request) for request in asked()]
    assert graphs.captures and graphs.replays > graphs.captures


def test_texts_are_those_of_one_step_at_a_time_with_rows_refilled(graphs):
    """Eight rows for 24 requests; every row that ends makes room for another."""
    variant = tiny_variant()
    found, engine = settled(variant, asked())
    assert engine.rows < len(asked())
    plain = Trees(variant, sparse=True)
    engine._writer = selftest.Choice(plain)
    assert found == engine.answer(asked())


def test_texts_end_at_their_end_token_and_no_later(graphs):
    """With 60 of 259 ids as end tokens nearly every text ends within a burst, at another place than its neighbours."""
    variant = tiny_variant(eos_ids=frozenset(range(2, 62)))
    found, _ = settled(variant, asked(40))
    assert found == [reference.answer(variant, request) for request in asked(40)]
    assert len({answer.n_tokens for answer in found if answer.stopped == "eos"}) > 3


def test_a_batch_uses_one_room_and_a_longer_one_makes_it_anew(graphs):
    variant = tiny_variant()
    trees = Trees(variant, sparse=True, decoding="captured")
    engine = Engine(variant, batch_tokens=64)
    engine._writer = selftest.Choice(trees)
    engine.answer(asked(12))
    first = graphs.captures
    engine.answer(asked(12))
    assert graphs.captures == first
    assert engine.answer(asked(30)) == [reference.answer(variant, request) for request in asked(30)]
    assert graphs.captures > first


def test_rows_come_in_buckets():
    def rows(count):
        return Kind.of([Writing(Generation("", 5), frozenset())] * count).rows

    assert [rows(count) for count in (1, 16, 17, 128, 129, 1000)] == [16, 16, 32, 128, 256, 1024]


def test_the_host_looks_every_eight_steps(graphs):
    variant = tiny_variant(eos_ids=frozenset())
    trees = Trees(variant, sparse=True, decoding="captured")
    writing = Writing(Generation("", 20), frozenset())
    trees.write([[1, 5, 9]], [[writing]], rows=4, budget=64)
    assert len(writing.ids) == 20
    assert graphs.replays == 1 + 8 + 8 + 3  # the guard's, then 19 tokens after the prefill's


def test_a_doubtful_draw_is_taken_again_by_the_host(graphs, monkeypatch):
    """Every draw that the device makes is called uncertain; texts stay the reference's, step by step."""
    certain = captured.sampled_ids

    def doubting(*arguments, **settings):
        ids, sure = certain(*arguments, **settings)
        return (ids + 1) % 259, torch.zeros_like(sure)

    variant = tiny_variant()
    engine = Engine(variant, batch_tokens=64)
    engine._writer = selftest.Choice(Trees(variant, sparse=True, decoding="captured"))
    expected = [reference.answer(variant, request) for request in asked(10)]
    monkeypatch.setattr(captured, "sampled_ids", doubting)
    assert engine.answer(asked(10)) == expected


def test_logits_that_are_not_finite_break_their_own_text_only(graphs):
    """A model that returns NaN after one token id: texts that reach it are broken, as one by one, and no others."""
    model = tiny_model("llama")
    variant = tiny_variant(model=model)
    some = reference.new_ids(variant, [1, 50, 60], Generation("", 12))
    poison = some[5]

    def spoil(_module, inputs, output):
        return output.masked_fill((inputs[0] == poison)[..., None], torch.nan)

    hook = model.get_input_embeddings().register_forward_hook(spoil)
    try:
        trees = Trees(variant, sparse=True, decoding="captured")
        starts = [[1, 50, 60], [1, 70], [1, 90, 12, 13]]
        writings = [Writing(Generation("", 12), frozenset([2])) for _ in starts]
        order = sorted(range(3), key=lambda index: starts[index])
        trees.write([starts[i] for i in order], [[writings[i]] for i in order], rows=4, budget=64)
        for start, writing in zip(starts, writings, strict=True):
            alone = reference.new_ids(variant, start, Generation("", 12))
            assert writing.broken == (alone is None)
            if alone is not None:
                assert writing.ids == alone
        assert writings[0].broken
    finally:
        hook.remove()


def test_log_probabilities_are_recorded_like_the_texts(graphs):
    variant = tiny_variant()
    starts = [[1, 50, 60], [1, 70], [1, 90, 12, 13]]
    both = []
    for decoding in ("captured", "parts"):
        writings = [[Writing(Generation("", 11), frozenset([2]), recorded=True)] for _ in starts]
        Trees(variant, sparse=True, decoding=decoding).write(starts, writings, rows=4, budget=64)
        both.append([writing for [writing] in writings])
    for one, other in zip(*both, strict=True):
        assert one.ids == other.ids
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)


class Refusing:
    def capture(self, step):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


class OtherBits:
    """A replay that forgets the last bit of what the step wrote: a graph of other kernels."""

    def capture(self, step):
        def replay():
            step()
            step.__self__.logits = step.__self__.logits * (1 + 2e-7)

        return replay


@pytest.mark.parametrize("broken", [Refusing, OtherBits])
def test_where_capture_fails_the_run_goes_on_step_by_step_and_says_so(broken, monkeypatch):
    monkeypatch.setattr(captured, "graphs_for", lambda device: broken())
    variant = tiny_variant()
    engine = Engine(variant, batch_tokens=64)
    engine._writer = selftest.Choice(Trees(variant, sparse=True, decoding="captured"))
    assert engine.answer(asked(10)) == [reference.answer(variant, request) for request in asked(10)]
    assert "could not be captured" in str(engine.notes[-1])
    assert engine.said == engine.notes
    monkeypatch.setenv("TILTMETER_STRICT", "1")
    engine._writer = selftest.Choice(Trees(variant, sparse=True, decoding="captured"))
    with pytest.raises((RuntimeError, NotImplementedError)):
        engine.answer(asked(10))


def test_the_self_test_takes_the_next_way_where_capture_fails(graphs, monkeypatch):
    monkeypatch.setattr(captured, "graphs_for", lambda device: Refusing())
    choice = selftest.choose_writer(tiny_variant())
    assert choice.method.name == NAMES["kernel"]
    assert "stream is capturing" in str(choice.notes[0])


def test_a_batch_that_fails_leaves_no_room_behind(graphs, monkeypatch):
    variant = tiny_variant()
    trees = Trees(variant, sparse=True, decoding="captured")
    writing = Writing(Generation("", 20), frozenset())
    monkeypatch.setattr(Burst, "fill", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        trees.write([[1, 5, 9]], [[writing]], rows=4, budget=64)
    assert trees._steps._room.own == []


class OneDevice(TorchDispatchMode):
    """Nothing may cross from one device to another."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        found = function(*arguments, **(named or {}))
        flat = torch.utils._pytree.tree_leaves((arguments, named, found))
        devices = {each.device.type for each in flat if isinstance(each, torch.Tensor)}
        if len(devices) > 1:
            raise AssertionError(f"{function.name()} goes from one of {devices} to the other")
        return found


@pytest.mark.parametrize("kind", ["greedy", "sampled"])
@pytest.mark.parametrize("name", ["llama", "mistral-window", "qwen2-mixed", "gemma2", "gpt2", "cohere2"])
def test_the_step_asks_the_host_for_nothing(name, kind):
    """The whole step on a device whose tensors hold no values (`meta`): a read would raise, and so would a copy from
    the host or to it."""
    with torch.device("meta"):
        model = tiny_model(name)
    variant = tiny_variant(name, model=model, device="meta")
    trees = TreeModel(variant, sparse=True)
    keys = torch.zeros(1, 4 if name == "gpt2" else 2, 4, 8, device="meta")
    like = [(keys, keys)] * model.config.num_hidden_layers
    room = Room()
    store = DecodeStore(like, 4, 2, 16, 24, windows_of_layers(model.config), like, room, one_kernel=True)
    heat, mass = (0.7, 0.9) if kind == "sampled" else (0.0, 1.0)
    writings = [Writing(Generation("", 9, heat, mass, seed), frozenset([2]), recorded=True) for seed in range(5)]
    burst = Burst(Kind.of(writings), store, trees)
    with OneDevice():
        burst.step()
    assert burst.logits.shape == (16, 259)


def test_the_test_before_this_one_would_see_a_read_and_a_copy():
    there, here = torch.zeros(3, device="meta"), torch.zeros(3)
    with OneDevice():
        with pytest.raises(RuntimeError, match="meta"):
            there.sum().item()
        with pytest.raises(RuntimeError, match="meta"):
            there.nonzero()
        with pytest.raises((NotImplementedError, AssertionError)):
            there.cpu()
        with pytest.raises(AssertionError, match="to the other"):
            here.to("meta")


def test_a_row_stands_still_once_it_has_ended():
    """Eight replays of a row whose limit is three: three ids count, and its keys go no further."""
    variant = tiny_variant(eos_ids=frozenset())
    trees = Trees(variant, sparse=True, decoding="captured")
    short, long = (Writing(Generation("", new), frozenset()) for new in (4, STEPS + 1))
    trees.write([[1, 5, 9], [1, 6]], [[short], [long]], rows=4, budget=64)
    assert (len(short.ids), len(long.ids)) == (4, STEPS + 1)
    assert short.ids == reference.new_ids(variant, [1, 5, 9], short.request)
    assert long.ids == reference.new_ids(variant, [1, 6], long.request)


@pytest.mark.triton
@pytest.mark.parametrize("decoding", ["kernel", "captured"])
@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma2"])
def test_texts_by_the_kernel_are_the_reference_s(name, decoding, monkeypatch):
    """The kernel in its place in the engine, run by Triton's interpreter."""
    from tiltmeter.scoring.kernels import decode_kernel

    used = []
    attend = decode_kernel.attend
    monkeypatch.setattr(decode_kernel, "attend", lambda *given: used.append(1) or attend(*given))
    variant = tiny_variant(name)
    monkeypatch.setattr(decode_kernel, "ENOUGH_PROGRAMS", 1)  # an interpreted program takes milliseconds
    monkeypatch.setattr(captured, "FEWEST_ROWS", 1)
    requests = [*(Generation(prompt, 4) for prompt in prompts()[5:8]), Generation(prompts()[2], 3, 1.0, 1.0, 7)]
    engine = Engine(variant, batch_tokens=64)
    engine._writer = selftest.Choice(Trees(variant, sparse=True, decoding=decoding))
    assert engine.answer(requests) == [reference.answer(variant, request) for request in requests]
    assert used
