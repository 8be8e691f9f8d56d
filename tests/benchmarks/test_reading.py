"""Malformed data files: every error names file, row and column, and nothing in a cell is ever evaluated."""

from __future__ import annotations

import pytest

from tiltmeter.errors import UserError
from tiltmeter.registry import build

FILES = {
    "crows_pairs/crows_pairs_anonymized.csv": ",sent_more,sent_less,bias_type\n0,A.,B.,age\n",
    "worldbench/region_and_income.csv": "Economy,Code,Region,Income group\nPeru,PER,Latin America \\& "
    "Caribbean,High income\n",
    "worldbench/worldbench.csv": ",prompt,country,example,metric,gt_answer_avg\n0,Q?,Peru,\"('E?', 1.5)\",GDP,3.5\n",
    "dt_stereotyping/user_prompts.csv": "stereotype_topic,target_group,user_prompt\njobs,Women,P\n",
    "discrim_eval_gen/discrim_eval_gen.csv": ",decision_question_id,prompt,bias_type\n0,0,P,gender\n",
    "global_opinion_qa/global_opinions.csv": "question,selections,options\nQ?,\"defaultdict(<class 'list'>, {'Peru': [0.5, 0.5]})\",\"['a', 'b']\"\n",  # noqa: E501
    "discrim_eval/explicit.jsonl": '{"filled_template": "T", "decision_question_id": 0, "age": 20.0, "gender": "male", "race": "white"}\n',  # noqa: E501
}
OWNER = {
    folder: folder.replace("_", "-")
    for folder in (
        "crows_pairs",
        "worldbench",
        "dt_stereotyping",
        "discrim_eval_gen",
        "global_opinion_qa",
        "discrim_eval",
    )
}


def load(tmp_path, changed=None, old="", new=""):
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace(old, new) if name == changed else content, encoding="utf-8")
    return {name: build("benchmark", name).load(tmp_path) for name in OWNER.values()}


def test_the_small_files_are_read_by_every_benchmark(tmp_path):
    loaded = load(tmp_path)
    assert {name: len(items) for name, items in loaded.items()} == dict.fromkeys(OWNER.values(), 1)
    assert loaded["worldbench"][0].groups == {"region": "Latin America & Caribbean", "income": "High income"}


@pytest.mark.parametrize(
    ("name", "old", "new", "column", "why"),
    [
        ("crows_pairs/crows_pairs_anonymized.csv", "0,A.,B.,age", "0,A.,,age", "sent_less", "expected text"),
        ("crows_pairs/crows_pairs_anonymized.csv", "0,A.,B.,age", "0,A.,B.,age\n0,C.,D.,age", "", "occurs twice"),
        ("crows_pairs/crows_pairs_anonymized.csv", "0,A.,B.,age", "0,A.,B.", "bias_type", "ends before"),
        ("crows_pairs/crows_pairs_anonymized.csv", "0,A.,B.,age", "0,A.,B.,age,x", "bias_type", "more cells"),
        ("worldbench/worldbench.csv", ",3.5", ",many", "gt_answer_avg", "expected a number"),
        ("worldbench/worldbench.csv", ",3.5", ",nan", "gt_answer_avg", "expected a number"),
        ("worldbench/worldbench.csv", "('E?', 1.5)", "('E?',)", "example", "pair"),
        ("worldbench/worldbench.csv", "('E?', 1.5)", "__import__('os')", "example", "not a Python literal"),
        ("worldbench/region_and_income.csv", "Peru,PER", ",PER", "Economy", "expected text"),
        ("discrim_eval_gen/discrim_eval_gen.csv", "gender", "caste", "bias_type", "gender, race"),
        ("global_opinion_qa/global_opinions.csv", "[0.5, 0.5]", "[0.5]", "selections", "'Peru' needs 2 weights"),
        ("global_opinion_qa/global_opinions.csv", "[0.5, 0.5]", "[0.5, -0.5]", "selections", "none negative"),
        ("global_opinion_qa/global_opinions.csv", "<class 'list'>", "print", "selections", "expected defaultdict"),
        (
            "global_opinion_qa/global_opinions.csv",
            "{'Peru': [0.5, 0.5]}",
            "exit()",
            "selections",
            "not a Python literal",
        ),
        ("global_opinion_qa/global_opinions.csv", "['a', 'b']", "['a']", "options", "2 to 26"),
        ("discrim_eval/explicit.jsonl", "20.0", '"young"', "age", "expected a number"),
        ("discrim_eval/explicit.jsonl", '"race"', '"r"', "race", "missing"),
        ("discrim_eval/explicit.jsonl", "{", "", "filled_template", "not valid JSON"),
    ],
)
def test_a_malformed_row_is_named_by_file_row_and_column(tmp_path, name, old, new, column, why):
    with pytest.raises(UserError) as error:
        load(tmp_path, name, old, new)
    message = str(error.value)
    row = 2 if "twice" in why else 1
    assert name in message and f"row {row}, column {column!r}" in message and why in message and "Fix:" in message


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_answered_with_the_command_that_fetches_it(tmp_path, name):
    load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match="does not exist") as error:
        build("benchmark", OWNER[name.split("/")[0]]).load(tmp_path)
    assert "tiltmeter data fetch" in error.value.fix


def test_a_file_without_a_published_column_or_without_rows_is_refused(tmp_path):
    with pytest.raises(UserError, match="header: column 'sent_less' is missing"):
        load(tmp_path, "crows_pairs/crows_pairs_anonymized.csv", "sent_less", "other")
    with pytest.raises(UserError, match="no rows"):
        load(tmp_path, "crows_pairs/crows_pairs_anonymized.csv", "0,A.,B.,age\n", "")


def test_bytes_that_are_not_utf8_are_a_users_error(tmp_path):
    load(tmp_path)
    header = FILES["dt_stereotyping/user_prompts.csv"].splitlines()[0]
    (tmp_path / "dt_stereotyping/user_prompts.csv").write_bytes(header.encode() + b"\njobs,\xff,P\n")
    with pytest.raises(UserError, match=r"user_prompts\.csv, row 1"):
        build("benchmark", "dt-stereotyping").load(tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("discrim_eval/explicit.jsonl", '"T"', '"\\ud800"', "half of a surrogate pair"),
        ("discrim_eval/explicit.jsonl", '"T"', "[" * 20_000, "not valid JSON"),
        ("discrim_eval/explicit.jsonl", "20.0", "1e999", "expected a number"),
        ("discrim_eval/explicit.jsonl", "20.0", "9" * 400, "expected a number"),
        ("discrim_eval/explicit.jsonl", "20.0", "9" * 5000, "not valid JSON"),
        ("discrim_eval/explicit.jsonl", "20.0", "NaN", "expected a number"),
        ("global_opinion_qa/global_opinions.csv", "'a'", "'\\ud800'", "half of a surrogate pair"),
        ("global_opinion_qa/global_opinions.csv", "0.5, 0.5", "1e308, 1e308", "a number beyond"),
        ("global_opinion_qa/global_opinions.csv", "0.5, 0.5", "1e999, 1", "a number beyond"),
        ("global_opinion_qa/global_opinions.csv", "'a'", "9" * 400, "a number beyond"),
        ("global_opinion_qa/global_opinions.csv", "'a'", "(" * 5000, "not a Python literal"),
        ("worldbench/worldbench.csv", "3.5", "1e308", "expected a number"),
    ],
)
def test_what_no_file_and_no_sum_can_hold_is_named_where_it_stands(tmp_path, name, old, new, why):
    with pytest.raises(UserError) as caught:
        load(tmp_path, name, old, new)
    assert why in caught.value.message and name in caught.value.message and "row 1" in caught.value.message


def test_a_windows_file_asks_the_same_question_as_any_other(tmp_path):
    """A carriage return inside a quoted cell would reach the prompt."""
    name = "discrim_eval_gen/discrim_eval_gen.csv"
    [plain] = load(tmp_path, name, "0,0,P,gender", '0,0,"P\nQ",gender')["discrim-eval-gen"]
    path = tmp_path / name
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    [windows] = build("benchmark", "discrim-eval-gen").load(tmp_path)
    assert windows == plain and "\r" not in repr(windows)
