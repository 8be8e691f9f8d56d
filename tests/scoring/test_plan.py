"""The batch plan: everything once, the same every time, another composition under a salt."""

from __future__ import annotations

import numpy as np

from tiltmeter.scoring.plan import plan, tokens_on_disk
from tiltmeter.scoring.requests import Generation, OptionProbs, SequenceLogprob

PROMPTS = [f"prompt {n % 40}" for n in range(120)]
TOKENS = [[1, *prompt.encode()] for prompt in PROMPTS]
OPTIONS = [OptionProbs] * len(PROMPTS)


def test_every_request_is_planned_once_and_kinds_are_not_mixed():
    kinds = [OptionProbs] * 50 + [SequenceLogprob] * 40 + [Generation] * 30
    batches = plan(kinds, TOKENS, batch_tokens=32)
    assert sorted(index for batch in batches for index in batch) == list(range(120))
    assert all(len({kinds[index] for index in batch}) == 1 for batch in batches)
    assert len(batches) == 6  # 4 of 8 generations (4 rows, twice over), 1 of options, 1 of sequences


def test_the_plan_depends_on_nothing_but_its_arguments():
    assert plan(OPTIONS, TOKENS, 16) == plan(list(OPTIONS), [list(ids) for ids in TOKENS], 16)
    assert plan(OPTIONS, TOKENS, 2) != plan(OPTIONS, TOKENS, 64)


def test_a_salt_gives_another_composition_even_where_one_batch_would_hold_everything():
    def groups(salt):
        return {frozenset(batch) for batch in plan(OPTIONS, TOKENS, 10**6, salt)}

    assert groups("") == {frozenset(range(120))}
    assert not groups("rerun") & groups("")
    assert groups("rerun") != groups("another")
    assert groups("rerun") == groups("rerun")


def test_samples_of_one_prompt_stay_together_with_and_without_a_salt():
    for salt in ("", "rerun"):
        batches = plan([Generation] * len(PROMPTS), TOKENS, 16, salt)
        assert len(batches) > 3
        for prompt in set(PROMPTS):
            wanted = {index for index, other in enumerate(PROMPTS) if other == prompt}
            assert sum(bool(wanted & set(batch)) for batch in batches) == 1


def test_neighbours_share_prefixes():
    batches = plan(OPTIONS, TOKENS, 16)
    order = [index for batch in batches for index in batch]
    assert order == sorted(order, key=lambda index: (TOKENS[index], index))


def test_sorting_a_few_tokens_at_a_time_is_sorting():
    rng = np.random.default_rng(5)
    tokens = [rng.integers(0, 2, rng.integers(1, 40)).tolist() for _ in range(300)]  # long ties, prefixes, repeats
    tokens += [*tokens[:50], [*tokens[0], 1], tokens[0][:3]]
    order = [index for batch in plan([OptionProbs] * len(tokens), tokens, 64) for index in batch]
    assert order == sorted(range(len(tokens)), key=lambda index: (tokens[index], index))


def test_ids_on_disk_make_the_same_plan_as_ids_in_memory():
    for salt in ("", "rerun"):
        with tokens_on_disk(iter(TOKENS)) as stored:
            assert [list(ids) for ids in stored] == TOKENS
            assert plan(OPTIONS, stored, 16, salt) == plan(OPTIONS, TOKENS, 16, salt)


def test_nothing_to_plan_is_an_empty_plan():
    assert plan([], [], 16) == []
