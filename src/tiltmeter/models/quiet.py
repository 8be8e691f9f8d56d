"""Keeps libraries' progress bars and log lines off stdout (where results go) and stderr (where ours go)."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Swallows what is written to stdout, stderr and transformers' log; exceptions still carry their own message.

    What transformers only logs and a run must know (weights drawn at random, dropped) is read from its reports.
    """
    sink = io.StringIO()
    hush_transformers()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def hush_transformers() -> None:
    """No line of transformers' own log reaches the user, from here on, unless TRANSFORMERS_VERBOSITY asks for it."""
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.getLogger("transformers").setLevel(logging.CRITICAL)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # transformers imports torchao where there is one
