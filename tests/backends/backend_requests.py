"""Requests of every kind, and what it means that two backends answer them alike."""

import pytest

from tiltmeter.scoring.requests import Generation, OptionProbs, SequenceLogprob

REQUESTS = [
    SequenceLogprob("Once upon a time there was a little girl."),
    SequenceLogprob("x"),
    OptionProbs("Lily was a happy girl. She liked to", (("a", " a"), ("the", " the", "The"), ("s",))),
    OptionProbs("no form has a token", (("",),)),
    Generation("Once upon a time", 24),
    Generation("The cat", 1),
    SequenceLogprob("too long " * 400),
]


def same(found, expected):
    """Every answer is the reference's: numbers within 1e-4 nats, text and counts identical."""
    for ours, theirs in zip(found, expected, strict=True):
        assert (type(ours), ours.error, ours.n_tokens) == (type(theirs), theirs.error, theirs.n_tokens)
        if hasattr(ours, "text"):
            assert (ours.text, ours.clean, ours.stopped) == (theirs.text, theirs.clean, theirs.stopped)
        elif hasattr(ours, "logprob"):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        else:
            for one, other in zip(ours.logprobs or (), theirs.logprobs or (), strict=True):
                assert one == pytest.approx(other, abs=1e-4)
