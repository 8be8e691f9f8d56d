"""The JSON Schema of a policy takes what the reader takes, and refuses what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from tiltmeter.cli.commands import app
from tiltmeter.decisions import policy_schema
from tiltmeter.decisions.policy import read_policy
from tiltmeter.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = jsonschema.Draft202012Validator(policy_schema.schema())


def taken(content) -> bool:
    try:
        read_policy(content)
    except UserError:
        return False
    return True


TAKEN = [
    {},
    {"default": None, "benchmarks": None, "cells": None, "ignore": None, "margins": None},
    {"default": {"require": "equivalent", "inconclusive": "fail", "allow_partial": True}},
    {"default": {"max_flips": 0, "max_unscored": 1, "max_rise": None, "groups": None}},
    {"benchmarks": {"crows-pairs": {"groups": {"bias_type=age": 2.5}, "max_group_change": 3}, "x": None}},
    {"cells": [{"strategy": "kv4*", "benchmark": "*", "model": "m", "format": "chat", "shifted": "pass"}]},
    {"ignore": ["rerun", "*+rerun"], "margins": {"crows-pairs": 1}},
]
REFUSED = [
    [],
    "default",
    {"defaults": {}},
    {"default": {"requires": "equivalent"}},
    {"default": {"require": "better"}},
    {"default": {"require": None}},
    {"default": {"inconclusive": None}},
    {"default": {"allow_partial": "yes"}},
    {"default": {"max_flips": 1.5}},
    {"default": {"max_flips": True}},
    {"default": {"max_rise": -1}},
    {"default": {"max_rise": "1"}},
    {"default": {"exclude_harm_beyond": None}},
    {"default": {"groups": {"age": 1}}},
    {"default": {"groups": {"bias_type=age": -1}}},
    {"default": {"groups": []}},
    {"benchmarks": []},
    {"benchmarks": {"crows-pairs": 3}},
    {"cells": {}},
    {"cells": ""},
    {"cells": [None]},
    {"cells": [{"strategy": "*"}]},
    {"cells": [{"strategy": 4, "benchmark": "*"}]},
    {"ignore": "rerun"},
    {"ignore": [3]},
    {"margins": {"crows-pairs": 0}},
    {"margins": {"crows-pairs": True}},
]


@pytest.mark.parametrize("content", TAKEN, ids=json.dumps)
def test_the_schema_takes_what_the_reader_takes(content):
    assert taken(content) and VALIDATOR.is_valid(content)


@pytest.mark.parametrize("content", REFUSED, ids=json.dumps)
def test_the_schema_refuses_what_the_reader_refuses(content):
    assert not taken(content) and not VALIDATOR.is_valid(content)


def test_the_schema_is_one_itself_and_the_documents_hold_it():
    jsonschema.Draft202012Validator.check_schema(policy_schema.schema())
    kept = (ROOT / "docs" / "policy.schema.json").read_text(encoding="utf-8")
    assert kept == policy_schema.text(), "tiltmeter policy --schema > docs/policy.schema.json"


def test_the_example_fits():
    assert VALIDATOR.is_valid(yaml.safe_load((ROOT / "examples" / "policy.yaml").read_text(encoding="utf-8")))


def policy(*arguments: object):
    return CliRunner().invoke(app, ["policy", *map(str, arguments)])


def test_the_command_prints_the_schema_and_checks_files_one_by_one(tmp_path):
    assert policy("--schema").output == policy_schema.text()
    good, bad = ROOT / "examples" / "policy.yaml", tmp_path / "bad.yaml"
    bad.write_text("default: {requires: equivalent}\n")
    assert policy(good).exit_code == 0
    result = policy(good, bad)
    assert result.exit_code == 2 and "did you mean 'require'?" in result.output and str(bad) in result.output


def test_nothing_to_check_is_a_mistake():
    assert isinstance(policy().exception, UserError)
