"""How a command ends: with an exit status that a pipeline can trust, whatever happened.

    0, 1, 3   what the command found (see its help)     2    a user's mistake, or a file that cannot be used
    130       interrupted, or asked to terminate        70   a fault of tiltmeter, with its traceback

1 tells a pipeline that a limit is broken, so nothing else may end with it.
"""

from __future__ import annotations

import errno
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tiltmeter.cli.output import guarded, say, say_error
from tiltmeter.errors import UserError

MISTAKE = 2
UNFORESEEN = 70  # sysexits' EX_SOFTWARE
ROOM = "make room; the same command goes on where it stopped"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def ending() -> Iterator[None]:
    """Everything a command does happens inside; raises SystemExit alone."""
    try:
        with _terminating_interrupts(), guarded():
            try:
                yield
            except (UserError, OSError) as error:
                known = error if isinstance(error, UserError) else _of_the_disk(error)
                if known is None:
                    raise
                say_error(known)
                sys.exit(MISTAKE)
    except UserError as error:  # of the output itself
        say_error(error)
        sys.exit(MISTAKE)
    except Exception:
        traceback.print_exc()
        say("tiltmeter: this is a fault of tiltmeter itself; nothing that was answered is lost", error=True)
        sys.exit(UNFORESEEN)


def _of_the_disk(error: OSError) -> UserError | None:
    """A full or read-only disk, or a file that cannot be used as it is, in words; None for other errors."""
    if error.errno in NO_ROOM:
        return UserError(f"cannot write to the disk: {error.strerror}", fix=ROOM)
    if error.filename is None or error.strerror is None:
        return None
    return UserError(
        f"cannot use {error.filename}: {error.strerror}", fix="check its path, its kind and its permissions"
    )


@contextmanager
def _terminating_interrupts() -> Iterator[None]:
    """SIGTERM (a scheduler, a runner that was cancelled) and SIGHUP end a command as Ctrl-C does: locks, servers and
    half-made files are cleared away, and it says what is kept. Whoever set a handler, or ignores one, keeps that."""
    ours = []
    if threading.current_thread() is threading.main_thread():
        numbers = [vars(signal)[name] for name in ("SIGTERM", "SIGHUP") if name in vars(signal)]
        ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
