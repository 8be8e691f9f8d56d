"""In which language a command speaks: as asked with --lang, else as the terminal is set."""

from __future__ import annotations

import os

from tiltmeter.errors import UserError
from tiltmeter.messages import LANGUAGES


def language(given: str | None) -> str:
    """A language of the catalogue. Raises UserError for one that it lacks."""
    if given is not None:
        if given not in LANGUAGES:
            raise UserError(f"tiltmeter does not speak {given!r}", fix=f"--lang {' or --lang '.join(LANGUAGES)}")
        return given
    names = ("LC_ALL", "LC_MESSAGES", "LANG")  # in the order in which a terminal obeys them
    spoken = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return next((code for code in LANGUAGES if spoken.lower().startswith(code)), "en")
