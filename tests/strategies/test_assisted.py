"""Assisted decoding: the greedy text is the base's, and what was guessed of it is counted as a plain loop counts it."""

import math

import torch

from tiltmeter.models.variant import Guesses
from tiltmeter.runs.guesses import Guessed, acceptance
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import Generation, answer_from_dict, answer_to_dict
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

PROMPTS = ("Once upon a time there was a little girl", "The dog and the cat and the dog and the cat and the")


def greedy(model, ids: list[int], count: int) -> list[int]:
    with torch.inference_mode():
        for _ in range(count):
            ids = [*ids, int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())]
    return ids[-count:]


def test_a_helper_that_is_the_model_itself_is_always_right(stories):
    """Every guess is accepted: 24 tokens in rounds of 5 guesses and one settled token are 4 forwards, 20 accepted."""
    variant = apply.load(stories, parse(f"assisted:assistant={stories},guesses=5"))
    for prompt in PROMPTS:
        ids = variant.tokenizer(prompt).input_ids
        new, guesses = variant.generate(ids, 24)
        assert new == greedy(variant.model, ids, 24)
        assert guesses == Guesses(20, 20)


def test_a_helper_that_knows_nothing_is_hardly_ever_right(stories, tmp_path):
    import shutil
    from pathlib import Path

    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(stories)).save_pretrained(tmp_path)
    for file in Path(stories).glob("tokenizer*"):
        shutil.copy(file, tmp_path / file.name)
    variant = apply.load(stories, parse(f"assisted:assistant={tmp_path},guesses=4"))
    ids = variant.tokenizer(PROMPTS[0]).input_ids
    new, guesses = variant.generate(ids, 24)
    assert new == greedy(variant.model, ids, 24)
    assert guesses.accepted <= 2 < 40 <= guesses.proposed


def test_guesses_from_the_prompt_are_counted_and_stored_with_the_answer(stories):
    variant = apply.load(stories, parse("assisted"))
    answer = reference.answer(variant, Generation(PROMPTS[0], 120))
    base = reference.answer(apply.load(stories, parse("none")), Generation(PROMPTS[0], 120))
    assert (answer.text, answer.clean) == (base.text, base.clean)
    assert 0 <= answer.accepted <= answer.guessed and answer.guessed > 0
    assert answer_from_dict(answer_to_dict(answer)) == answer
    assert "guessed" not in answer_to_dict(base)  # nothing guessed: stored as ever


def item(cluster: str, group: str, guessed: int, accepted: int, written: int) -> Guessed:
    return Guessed(cluster, (("gender", group),), 1, guessed, accepted, written)


def test_rates_are_sums_over_answers_overall_first_then_groups():
    found = acceptance(
        [item("a", "female", 10, 4, 20), item("b", "female", 10, 8, 20), item("c", "male", 20, 2, 20)], seed=0
    )
    assert [(each.attribute, each.group) for each in found] == [("", ""), ("gender", "female"), ("gender", "male")]
    overall, female, male = found
    assert (overall.guessed, overall.rate) == (40, 14 / 40)
    assert overall.tokens_per_forward == 60 / (60 - 14)
    assert (female.rate, male.rate) == (12 / 20, 2 / 20)
    assert female.low == 0.4 and female.high == 0.8  # two clusters: 0.4, 0.6 or 0.8
    assert math.isnan(male.low)  # one cluster shows no spread
    assert overall.low <= overall.rate <= overall.high


def test_answers_without_guesses_have_no_rate():
    assert acceptance([item("a", "female", 0, 0, 20)], seed=0) == ()


def test_a_run_keeps_acceptance_overall_and_per_group(stories, shared, tmp_path):
    from tiltmeter.pipeline import run
    from tiltmeter.results.document import read_results
    from tiltmeter.study import make_study

    study = make_study(
        models=[stories],
        strategies=[f"assisted:assistant={stories}"],
        benchmarks=["dt-stereotyping"],
        data=str(shared / "data"),
        limit=2,
        draws=200,
        batch_tokens=2048,
    )
    run(study, tmp_path / "run")
    base, assisted = read_results(tmp_path / "run")["variants"]
    [(_, quality)] = assisted["text_quality"]["answers"].items()
    overall, *groups = quality["acceptance"]
    assert overall["attribute"] == "" and overall["guessed"] > 0
    # the helper is the model itself: only what it guessed past the end of an answer is not accepted
    assert 0.5 < overall["rate"] <= 1 and overall["tokens_per_forward"] > 1.5
    assert groups and all(0 < each["guessed"] <= overall["guessed"] and each["group"] for each in groups)
    assert all(not each["acceptance"] for each in base["text_quality"]["answers"].values())
