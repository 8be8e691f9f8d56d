"""keep=: which layers a quantizer leaves alone, how it is typed, and that it is so."""

import pytest

from tiltmeter.errors import UserError
from tiltmeter.models import linear
from tiltmeter.strategies import _keep
from tiltmeter.strategies.base import DidNothing
from tiltmeter.strategies.chain import parse
from tiltmeter.strategies.w4a16 import W4A16
from tiltmeter.variants import apply

LAYERS = [f"model.layers.{block}.{kind}" for block in range(20) for kind in ("self_attn.q_proj", "mlp.down_proj")]


@pytest.mark.parametrize(
    ("keep", "blocks", "kinds"),
    [
        ("1", {1}, None),  # not 10 to 19
        ("0-2+19", {0, 1, 2, 19}, None),
        ("down_proj", set(range(20)), {"down_proj"}),
        ("self_attn", set(range(20)), {"q_proj"}),
    ],
)
def test_blocks_and_kinds_are_named_exactly(keep, blocks, kinds):
    found = _keep.kept("w4a16", keep, LAYERS)
    wanted = [
        name
        for name in LAYERS
        if int(name.split(".")[2]) in blocks and (kinds is None or name.rpartition(".")[2] in kinds)
    ]
    assert found == wanted


@pytest.mark.parametrize(
    ("keep", "says", "fix"),
    [("20", "keep=20 names no layer", "blocks are 0-19"), ("up_proj", "keep=up_proj", "mlp, down_proj")],
)
def test_what_the_model_has_not_is_refused_with_what_it_has(keep, says, fix):
    with pytest.raises(UserError) as caught:
        _keep.kept("w4a16", keep, LAYERS)
    assert says in caught.value.message and fix in caught.value.fix
    with pytest.raises(UserError, match="keeps every layer"):
        _keep.kept("w4a16", "0-19", LAYERS)


@pytest.mark.parametrize(
    ("typed", "names", "keep"),
    [
        ("w4a16:keep=0-3+29", ["w4a16"], "0-3+29"),
        ("w4a16:keep=0-3+29,bits=3+kv4", ["w4a16", "kv4"], "0-3+29"),
        ("wanda-2:4+w4a16:keep=down_proj+0+kv-fp8", ["wanda-2:4", "w4a16", "kv-fp8"], "down_proj+0"),
        ("nvfp4a16:keep=1", ["nvfp4a16"], "1"),
    ],
)
def test_a_list_goes_on_after_a_plus_until_a_strategy_is_named(typed, names, keep):
    chain = parse(typed)
    assert [part.name for part in chain.parts] == names
    [quantizer] = [part for part in chain.parts if part.role == "weights"]
    assert quantizer.keep == keep
    assert parse(chain.canonical) == chain


@pytest.mark.parametrize("typed", ["w4a16:keep=3-1", "w4a16:keep=a b", "w4a16:keep=1+-2"])
def test_what_can_name_nothing_is_refused_when_it_is_typed(typed):
    with pytest.raises(UserError, match="names no block and no kind"):
        parse(typed)


def test_after_a_setting_that_is_no_list_a_plus_begins_a_strategy():
    with pytest.raises(UserError, match="no strategy called '29'"):
        parse("w4a16:bits=4+29")


@pytest.mark.parametrize(
    ("strategy", "left"),
    [
        ("w4a16:keep=1", 7),
        ("fp8:keep=down_proj", 12),
        ("gptq:samples=2,length=32,keep=0", 7),
        ("awq:samples=2,length=32,keep=0", 7),
    ],
)
def test_kept_layers_hold_their_weights_bit_for_bit(stories, strategy, left):
    base = linear.linear_layers(apply.load(stories, parse("none")).model)
    variant = apply.load(stories, parse(strategy))
    [step] = variant.proof["steps"].values()
    now = linear.linear_layers(variant.model)
    same = {name for name in base if now[name].weight.equal(base[name].weight)}
    assert same == set(step["kept_layers"])
    assert step["quantized_layers"] == left == 14 - len(same)
    assert 0 < variant.proof["changed_share_of_block_weights"] < 1
    assert variant.proof["reload_difference"] <= 1e-4


def test_an_ignore_list_that_ignores_nothing_is_caught(stories, monkeypatch, tmp_path):
    """llm-compressor takes "model.layers.0" as the name of a module that is no linear layer, and says nothing."""
    recipe = W4A16.recipe
    monkeypatch.setattr(W4A16, "recipe", lambda self, ignore: recipe(self, ["lm_head", "model.layers.0"]))
    with pytest.raises(DidNothing, match="14 of 7 linear layers"):
        apply.load(stories, parse("w4a16:keep=0"), cache_dir=tmp_path)
