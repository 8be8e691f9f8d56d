"""Faster arithmetic for a loaded model, each held to the model's own code."""
