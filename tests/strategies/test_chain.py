"""Strategy strings: grammar, canonical form, and the mistakes that must be caught before a model is loaded."""

import typing
from dataclasses import fields

import pytest

from tiltmeter.errors import UserError
from tiltmeter.registry import known
from tiltmeter.strategies.chain import parse


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("none", "none"),
        ("none+int4", "int4"),
        ("int4:type=fp4", "int4"),
        ("int4:type=nf4", "int4:type=nf4"),
        ("INT8", "int8"),
        ("dtype:bfloat16", "dtype:bfloat16"),
        ("dtype:type=bfloat16", "dtype:bfloat16"),
        ("kv4:read=transformers,residual_length=16", "kv4:read=transformers,residual_length=16"),
        ("kv4:residual_length=16,read=transformers", "kv4:read=transformers,residual_length=16"),
        ("int4:double_quant=true + kv8", "int4:double_quant=true+kv8"),
    ],
)
def test_one_canonical_string_per_setting(typed, canonical):
    assert parse(typed).canonical == canonical
    assert parse(canonical) == parse(typed)


def test_settings_hold_the_defaults_too():
    assert parse("int4").settings == {"int4": {"type": "fp4", "double_quant": False}}
    assert parse("none").settings == {}


@pytest.mark.parametrize(
    ("typed", "says", "fix"),
    [
        ("itn4", "no strategy called 'itn4'", "int4"),
        ("int4:tpye=nf4", "no setting 'tpye'", "type"),
        ("int4:type=nf5", "'nf5' is not possible", "fp4, nf4"),
        ("kv4:group_size=big", "whole number", "tiltmeter list strategies"),
        ("kv4:group_size=0", "at least 1", "default"),
        ("int4:nf4", "is no setting", "int4:key=value"),
        ("int8:threshold=-1", "at least 0", "threshold=6"),
        ("none:x=1", "no setting 'x'", "no settings"),
        ("dtype", "needs its setting 'type'", "bfloat16"),
        ("int4:double_quant=yes", "true or false", "double_quant=true"),
        ("int4+int4", "twice", "once"),
        ("int8+int4", "quantized the weights already", "another order"),
        ("kv4+kv8", "cannot be both", "another order"),
        ("int4+dtype:bfloat16", "dtype comes before int4", "another order"),
        ("", "no strategy called ''", "choose from"),
    ],
)
def test_a_mistake_is_named_with_what_to_type_next(typed, says, fix):
    with pytest.raises(UserError) as caught:
        parse(typed)
    assert says in caught.value.message
    assert fix in caught.value.fix


def test_rerun_salts_batches_and_names_its_partner():
    assert (parse("int8").salt, parse("int8").base_of) == ("", None)
    assert (parse("rerun").salt, parse("rerun").base_of) == ("rerun", "none")
    assert (parse("int8+rerun:seed=2").salt, parse("int8+rerun").base_of) == ("rerun:seed=2", "int8")


def test_a_transformers_cache_is_not_exercised_where_only_the_first_token_counts():
    assert "in full precision" in parse("kv4:read=transformers").not_exercised("options")
    assert parse("kv4:read=transformers").not_exercised("sequence") is not None
    assert parse("kv4:read=transformers+rerun").not_exercised("sequence") is not None
    assert parse("kv4:read=transformers").not_exercised("generation") is None
    assert parse("kv4").not_exercised("options") is None
    assert parse("int4+kv4:read=transformers").not_exercised("options") is None  # int4 acts there
    assert parse("rerun").not_exercised("options") is None
    assert parse("none").not_exercised("options") is None


def test_replicates_count_calibration_seeds_up_and_leave_the_rest_alone():
    assert [c.canonical for c in parse("int4+kv4:scale=static,seed=5").replicates(3)] == [
        "int4+kv4:seed=5,scale=static",
        "int4+kv4:seed=6,scale=static",
        "int4+kv4:seed=7,scale=static",
    ]
    assert [c.canonical for c in parse("int4+kv4:read=transformers").replicates(3)] == ["int4+kv4:read=transformers"]


def numbers(kind):
    """(strategy, setting) of every registered strategy's numeric settings."""
    for name, cls in known("strategy").items():
        types = typing.get_type_hints(cls)
        yield from ((name, field.name) for field in fields(cls) if types[field.name] is kind)


@pytest.mark.parametrize(("name", "setting"), [*numbers(int), *numbers(float)])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "9" * 400, "-" + "9" * 5000])
def test_no_setting_takes_what_is_no_number_of_any_use(name, setting, value):
    with pytest.raises(UserError):
        parse(f"{name}:{setting}={value}")


@pytest.mark.parametrize(("name", "setting"), [pair for pair in numbers(int) if pair[1] != "seed"])
@pytest.mark.parametrize("value", [0, -1])
def test_no_size_and_no_count_is_less_than_one(name, setting, value):
    with pytest.raises(UserError):
        parse(f"{name}:{setting}={value}")
