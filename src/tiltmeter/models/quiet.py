"""Keeps libraries' progress bars and log lines off stdout (where results go) and stderr (where ours go)."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Swallows what is written to stdout and stderr; exceptions still carry their own message."""
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
