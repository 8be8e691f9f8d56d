"""Paired statistics: arrays of item outcomes in, changes, intervals, tests and verdicts out.

`designs` describes a benchmark's paired data, `compare` estimates its change, `settle` judges it among the run's rows;
`coherence`, `findings`, `policy`, `gate` and `choose` read what a run stored. numpy, scipy and statsmodels only:
nothing here knows a model, a prompt or a file.
"""
