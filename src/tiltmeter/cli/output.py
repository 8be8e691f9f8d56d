"""Standard output and error as tiltmeter prints on them: whatever takes the text, it arrives or the user is told.

no line is a command to GitHub's runner (a table may fold a name so that "::error" begins a line)
characters that the stream's encoding lacks become their nearest ASCII, never a traceback
a reader that went away (`| head`) or a stream that was closed ends the printing, not the work: the exit status stays
a full disk is said, with exit status 2
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from tiltmeter.errors import UserError
from tiltmeter.printed import no_command, one_line

NEAREST = {
    "\u2212": "-", "–": "-", "—": "-", "…": "~", "±": "~", "·": "*", "×": "x", "→": ">", "←": "<", "≈": "~", "≤": "<",
    "≥": ">", "▲": "^", "⇄": "~", "▼": "v", "∅": "o", "✕": "x",
    "✓": "y", "✗": "n", "•": "*", "“": '"', "”": '"', "‘": "'", "’": "'",
    "═": "=", "│": "|", "█": "#", "░": ".", "⟨": "<", "⟩": ">",
}  # fmt: skip


LONGEST = 4000  # characters of a message


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """One character for one, so that columns stay columns; ▁-like control pictures show their letter as "?"."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = []
    for character in error.object[error.start : error.end]:
        plain = NEAREST.get(character) or unicodedata.normalize("NFKD", character)[:1]
        if "─" <= character <= "╿":
            plain = NEAREST.get(character, "-")
        found.append(plain if plain.isascii() else "?")
    return "".join(found), error.end


codecs.register_error("tiltmeter", _nearest)


class Guarded:
    """A text stream around another; everything that is not writing is the other's."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._line_start = True
        self._commands = False
        self.gone = False
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="tiltmeter")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Raises UserError when the text cannot be kept (a full disk); a reader that went away is no error."""
        safe = text
        if not self._commands:
            safe = no_command(text if self._line_start else "\0" + text).removeprefix("\0")
        if text:
            self._line_start = text.rpartition("\n")[2].strip() == "" and ("\n" in text or self._line_start)
        self._try(lambda: self._stream.write(safe))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._try(self._stream.flush)

    @contextmanager
    def commands(self) -> Iterator[None]:
        """What is written meanwhile may command GitHub's runner."""
        self._commands = True
        try:
            yield
        finally:
            self._commands = False

    def _try(self, act: Any) -> None:
        if self.gone:
            return
        try:
            act()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            self.gone = True
            if isinstance(error, ValueError) or error.errno in (errno.EPIPE, errno.EBADF, errno.EIO):
                return
            raise UserError(
                f"cannot write to the output: {error.strerror or error}", fix="send it to a file on a disk with room"
            ) from None


@contextmanager
def guarded() -> Iterator[None]:
    """Both streams guarded; at the end they are flushed, so that nothing is left for the interpreter to stumble on."""
    before = sys.stdout, sys.stderr
    out, err = (Guarded(_opened(stream)) for stream in before)
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    try:
        try:
            yield
        except SystemExit:  # how a command with a status of its own ends: what it printed may still wait in the buffer
            out.flush()
            raise
        out.flush()
    finally:
        sys.stdout, sys.stderr = before
        for stream in (out, err):
            _discard_if_gone(stream)


def _opened(stream: Any) -> Any:
    """The stream; one that leads nowhere in place of a closed one, whose number the next opened file would get."""
    return stream if stream is not None else open(os.devnull, "w", encoding="utf-8")


def _discard_if_gone(stream: Guarded) -> None:
    """Lets what a dead stream still holds go nowhere, instead of failing once more when the interpreter ends."""
    try:
        stream.flush()
        if stream.gone and isinstance(stream._stream, io.TextIOWrapper):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream._stream.fileno())
            os.close(nowhere)
    except (OSError, ValueError, UserError):
        pass


def say(text: str, error: bool = False) -> None:
    """Print lines that are clean already, on standard output or standard error."""
    (sys.stderr if error else sys.stdout).write(text + "\n")


def say_commands(text: str, error: bool = False) -> None:
    """Print workflow commands for GitHub's runner."""
    stream = sys.stderr if error else sys.stdout
    with stream.commands() if isinstance(stream, Guarded) else nullcontext():
        stream.write(text + "\n")


def say_error(error: UserError) -> None:
    """A user's mistake on standard error, one line each for what is wrong and what to do."""
    lines = [f"tiltmeter: {one_line(error.message[:LONGEST])}"]
    if error.fix:
        lines.append(f"  Fix: {one_line(error.fix[:LONGEST])}")
    sys.stderr.write("\n".join(lines) + "\n")
