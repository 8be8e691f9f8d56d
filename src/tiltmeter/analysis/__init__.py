"""Paired statistics: arrays of item outcomes in, changes, intervals, tests and verdicts out.

`judge` does all of it for two arrays. Beneath it, `designs` describes a benchmark's paired data, `compare` estimates
its change, `settle` judges it among a run's rows; `coherence` and `signal` say where answers show nothing. numpy, scipy
and statsmodels only: nothing here knows a model, a prompt or a file.
"""

from tiltmeter.analysis.arrays import judge

__all__ = ["judge"]
