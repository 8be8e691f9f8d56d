"""The process that renders chat templates: one JSON request a line, one JSON answer a line. See `templates`.

Its memory is limited to what it holds after importing jinja, and `ROOM` more; its time is the parent's to limit.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

ROOM = 512 * 2**20  # bytes
LONGEST = 10_000_000  # characters


def limit_memory() -> None:
    """Where the system can: a template that doubles a text ends in MemoryError, not in a machine that swaps."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        room = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
    except (ImportError, OSError, ValueError):
        return


class Calendar:
    """What `datetime` is to templates: they ask it for now, and get the day that is set."""

    day: datetime

    @classmethod
    def now(cls) -> datetime:
        return cls.day


def main() -> None:
    from transformers.utils import chat_template_utils

    vars(chat_template_utils)["datetime"] = Calendar  # their `strftime_now` takes nothing else
    limit_memory()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        Calendar.day = datetime.fromisoformat(asked.pop("day"))
        try:
            found: Any = chat_template_utils.render_jinja_template(**asked)
            [text], _ = found  # texts, and places of the assistant's tokens
            answer = {"text": text} if len(text) <= LONGEST else {"error": f"it writes {len(text):,} characters"}
        except MemoryError:
            answer = {"error": f"it needs more than {ROOM // 2**20} MB"}
        except RecursionError:
            answer = {"error": "it calls itself without end"}
        except Exception as error:  # jinja's, and whatever a template's own expressions raise
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
