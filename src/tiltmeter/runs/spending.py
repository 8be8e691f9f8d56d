"""What a served model costs: an estimate before it is asked, and a budget that ends the asking.

Tokens are what hosted APIs charge for: of prompts, and new ones. Only the benchmarks' cells are counted; finding out
what a server can answer takes some 25 short requests more, and a perplexity, where it scores prompts, 64 passages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiltmeter.backends.base import BackendFailed
from tiltmeter.runs.store import Cell
from tiltmeter.scoring.reference import text_of
from tiltmeter.scoring.requests import Generation, Request

CHARACTERS = 4  # of English text, to a token


class BudgetSpent(BackendFailed):
    """The next batch would cost more than is left."""


@dataclass
class Spending:
    """Tokens that a run's served models may take, and have taken in committed batches.

    Attributes:
        budget: None: no limit.
        spent: of all cells in the run folder, earlier studies' included; what was answered twice was paid twice.
    """

    budget: int | None
    spent: int = 0

    def allow(self, requests: Sequence[Request]) -> None:
        """Raises BudgetSpent where these requests may take more than is left."""
        most = sum(expected(requests))
        if self.budget is not None and self.spent + most > self.budget:
            raise BudgetSpent(
                f"the budget of {self.budget:,} tokens is spent: {self.spent:,} were taken, the next {len(requests):,} "
                f"requests may take {most:,}; the same command with a larger --budget goes on here"
            )


def expected(requests: Iterable[Request]) -> tuple[int, int]:
    """(tokens of the prompts, estimated from their length; new tokens at most)."""
    read = new = 0
    for request in requests:
        read += len(text_of(request)) // CHARACTERS + 1
        new += request.max_new_tokens if isinstance(request, Generation) else 1
    return read, new


def taken(cells: Iterable[Cell]) -> int:
    """Tokens of all committed batches of these cells."""
    return sum(int(batch["tokens"]) for cell in cells for batch in cell.batches())


def estimate(name: str, cells: Sequence[Cell]) -> str:
    """One line: what asking these cells will take."""
    n, read, new = 0, 0, 0
    for cell in cells:
        n += cell.inputs.n_requests
        more = expected(cell.inputs.requests())
        read, new = read + more[0], new + more[1]
    return f"{name}: {n:,} requests, about {read:,} tokens to read and at most {new:,} to write"
