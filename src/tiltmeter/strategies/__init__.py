"""Inference acceleration methods, one file each."""
