"""Does making a language model faster change whom it treats how?

import tiltmeter
result = tiltmeter.run("Qwen/Qwen3-0.6B", strategies=["int4"], benchmarks=["crows-pairs"], out="runs/first")
result.rows, result.items          # data frames
tiltmeter.load("runs/first").rows
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiltmeter.results.document import Results

__version__ = "0.1.0"
__all__ = ["load", "run"]


def run(
    models: str | Sequence[str],
    *,
    strategies: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    out: str | Path,
    ray: str | None = None,
    **settings: Any,
) -> Results:
    """Measure models and their variants into the folder `out` and return the results.

    Args:
        models: hub ids or folders; the base of each is always measured.
        ray: address of a Ray cluster that computes: "local", "auto", "HOST:PORT" or "ray://HOST:PORT".
        settings: any further field of `tiltmeter.study.Study` (limit, data, format, decoding, seed …).
    Raises: `tiltmeter.errors.UserError` for a mistake, with its fix. Cells that failed are listed in
        ``result.document["run"]["failures"]``.
    """
    from tiltmeter.pipeline import run as run_study
    from tiltmeter.results.document import load as load_results
    from tiltmeter.study import make_study

    names = (models,) if isinstance(models, str) else tuple(models)
    study = make_study(models=names, strategies=tuple(strategies), benchmarks=tuple(benchmarks), **settings)
    run_study(study, Path(out), ray=ray)
    return load_results(out)


def load(run: str | Path) -> Results:
    """A run folder as data frames (`rows`, `items`) and its JSON document. Raises UserError when it is no run."""
    from tiltmeter.results.document import load as load_results

    return load_results(run)
