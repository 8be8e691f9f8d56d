"""Requests, the reference scorer that defines every number, and the engine that computes them fast."""
