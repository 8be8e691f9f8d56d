"""Chat templates are programs that came with a model: they are rendered in a process of their own, within limits.

transformers renders them in jinja's sandbox, which keeps them from files and code but not from loops without end or
texts of gigabytes. One worker process (`template_worker`) serves all templates of this process; a template that does
not answer in `SECONDS` costs the worker, and the run gets a UserError.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 10.0  # for one rendering
STARTING = 300.0  # for the worker's imports, on a loaded machine

_lock = threading.Lock()
_worker: subprocess.Popen[bytes] | None = None


class TemplateFailed(Exception):
    """A template raised, or needed more time or memory than it gets."""


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[tuple[str, str]], day: datetime, date_string: str
) -> str:
    """The text of (role, content) turns under the tokenizer's template, with its generation prompt.

    day: what a template that asks the clock is told. Raises TemplateFailed.
    """
    asked = {
        "conversations": [[{"role": role, "content": text} for role, text in messages]],
        "chat_template": tokenizer.get_chat_template(),
        "add_generation_prompt": True,
        "day": day.isoformat(),
        "date_string": date_string,
        **{name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)},
    }
    with _lock:
        answer = _ask(json.dumps(asked).encode() + b"\n")
    if "error" in answer:
        raise TemplateFailed(answer["error"])
    return str(answer["text"])


def _ask(line: bytes) -> dict[str, Any]:
    global _worker
    if _worker is None or _worker.poll() is not None:
        _worker = _start()
    try:
        assert _worker.stdin is not None
        _worker.stdin.write(line)
        _worker.stdin.flush()
        return _answer(_worker, SECONDS)
    except (OSError, ValueError):  # the process is gone
        _stop()
        raise TemplateFailed("it ended the process that renders it") from None
    except TemplateFailed:
        _stop()
        raise


def _start() -> subprocess.Popen[bytes]:
    """A worker that has said that it is ready, so that the time of its imports is no template's."""
    paths = os.pathsep.join(path for path in sys.path if path)
    made = subprocess.Popen(
        [sys.executable, "-m", "tiltmeter.models.template_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": paths},
    )
    _answer(made, STARTING)
    return made


def _answer(worker: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """The worker's next line. Raises TemplateFailed when none comes in time, ValueError when it is no JSON."""
    assert worker.stdout is not None
    with selectors.DefaultSelector() as ready:
        ready.register(worker.stdout, selectors.EVENT_READ)
        if not ready.select(seconds):
            worker.kill()
            raise TemplateFailed(f"it takes more than {seconds:g} seconds")
    answer: dict[str, Any] = json.loads(worker.stdout.readline())
    return answer


def _stop() -> None:
    global _worker
    if _worker is not None:
        _worker.kill()
        _worker.wait()
        _worker = None


atexit.register(_stop)
