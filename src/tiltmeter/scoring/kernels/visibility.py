"""Which keys a row of a prefix tree sees, as two integers per key instead of a mask. Plain numpy.

In depth-first order the nodes that descend from a node stand together right after it. So key j is seen by the rows
begins[j] <= i < ends[j] and by no others: itself and its descendants. A device makes whatever part of the mask it
needs from these vectors; a dense one of 4,096 rows would be 67 MB of float32 to build, cast and copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Visibility:
    """What Q rows see of N keys.

    Attributes:
        begins, ends: per key, the rows from and up to which it is seen, shape (N,).
        rows, keys: positions in their sequences, shapes (Q,) and (N,).
        window: keys this many positions back, or more, are hidden too; None: none is.
    """

    begins: np.ndarray
    ends: np.ndarray
    rows: np.ndarray
    keys: np.ndarray
    window: int | None = None

    def dense(self) -> np.ndarray:
        """Whether row i sees key j, bool (Q, N): the definition."""
        row = np.arange(len(self.rows))[:, None]
        seen: np.ndarray = (self.begins <= row) & (row < self.ends)
        if self.window is not None:
            seen &= self.rows[:, None] - self.keys < self.window
        return seen

    def keys_of(self, rows: np.ndarray) -> np.ndarray:
        """The keys that some of the ascending `rows` see, ascending; of those out of all windows, few or none."""
        next_row = np.searchsorted(rows, self.begins)  # the first that could see the key
        reached = next_row < len(rows)
        seen = reached & (rows[np.where(reached, next_row, 0)] < self.ends)
        if self.window is not None:
            seen &= self.rows[rows].min(initial=np.iinfo(np.int64).max) - self.keys < self.window
        return np.flatnonzero(seen)
