"""Errors a person caused and can repair. Everything else keeps its traceback."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A mistake in a command, a study file or a data folder.

    Args:
        message: what is wrong, naming the value that was given.
        fix: what to type or change next; shown on its own line.
    The command line prints both without a traceback and exits with status 2.
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return self.message if self.fix is None else f"{self.message}\n  Fix: {self.fix}"


def missing_extra(package: str, extra: str, needed_for: str) -> UserError:
    """The error for an optional library that is not installed."""
    return UserError(
        f"{needed_for} needs the package {package!r}, which is not installed", fix=f'pip install "tiltmeter[{extra}]"'
    )


def together(errors: Sequence[UserError]) -> UserError:
    """One error that says all of `errors`, each with its own fix, so that a command is corrected once."""
    if len(errors) == 1:
        return errors[0]
    lines = [f"{each.message}" + (f"\n    Fix: {each.fix}" if each.fix else "") for each in errors]
    return UserError(f"{len(errors)} things cannot work:\n" + "\n".join(f"  - {line}" for line in lines))
