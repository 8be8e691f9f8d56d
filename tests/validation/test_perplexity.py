"""Perplexity: the plain definition, and the order that compression usually has on a trained model."""

import json
import math
from pathlib import Path

import pytest
import torch
from validation.perplexity import main, perplexity

from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "tinystories-656k")


@pytest.fixture(scope="module")
def texts(shared: Path) -> list[str]:
    return json.loads((shared / "data" / "text" / "tinystories_1000.json").read_text())[:8]


def test_it_is_exp_of_the_mean_negative_log_likelihood_per_token(stories, texts):
    variant = apply.load(stories, parse("none"))
    found = perplexity(variant, texts[:2])
    losses = []
    for text in texts[:2]:
        ids = torch.tensor([variant.tokenizer(text).input_ids])
        assert ids.shape[1] <= variant.max_length
        with torch.inference_mode():
            losses += [(float(variant.model(ids, labels=ids).loss), ids.shape[1] - 1)]
    mean = sum(loss * n for loss, n in losses) / sum(n for _, n in losses)
    assert found.value == pytest.approx(math.exp(mean), rel=1e-5)
    assert (found.n_tokens, found.n_passages) == (sum(n for _, n in losses), 2)


def test_a_text_longer_than_the_context_is_scored_in_pieces(stories, texts):
    variant = apply.load(stories, parse("none"))
    ids = variant.tokenizer(" ".join(texts)).input_ids
    pieces = math.ceil(len(ids) / 512)
    assert pieces > 1
    assert perplexity(variant, [" ".join(texts)]).n_tokens == len(ids) - pieces  # each piece's first is not scored


def test_nothing_to_score_is_not_a_number(stories):
    assert math.isnan(perplexity(apply.load(stories, parse("none")), [""]).value)


def test_the_command_prints_the_usual_order_and_names_what_cannot_run(stories, shared, capsys):
    """Over 300 stories: none 26.1, nf4 27.6, fp4 28.9, magnitude 51.8; 8 stories keep that order."""
    text = str(shared / "data" / "text" / "tinystories_1000.json")
    asked = ["int4:type=nf4", "int4", "magnitude", "w4a16:group_size=100"]
    arguments = [stories, text, "--limit", "8", *(part for name in asked for part in ("-s", name))]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["none", *asked]
    values = [float(line.split()[1]) for line in lines[:4]]
    assert values == sorted(values)
    assert "not measured: w4a16: group_size 100 does not fit" in lines[4]
