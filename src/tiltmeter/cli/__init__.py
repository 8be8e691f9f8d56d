"""The command line: options, commands, and what they print in a terminal. `main` is the entry point."""

from __future__ import annotations


def main() -> None:
    """Runs the command that sys.argv names and exits with its status."""
    from tiltmeter.cli.commands import main as run_command  # imported here, so that one table needs no other command

    run_command()
