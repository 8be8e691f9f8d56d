"""Bias benchmarks, one file each."""
