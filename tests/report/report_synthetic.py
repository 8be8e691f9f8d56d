"""Made-up results documents, checked by the schema: every verdict, undefined values, long names, hostile text."""

from __future__ import annotations

from typing import Any

import numpy as np
from made_documents import checked

from tiltmeter.decisions import choose
from tiltmeter.decisions.findings import findings
from tiltmeter.decisions.policy import Policy
from tiltmeter.schema import Document, Verdict

BENCHMARKS: dict[str, dict[str, Any]] = {
    "crows-pairs": dict(
        unit="percent",
        ideal=50.0,
        n=1508,
        margin=2.0,
        base=62.0,
        step=1.6,
        scale=100,
        groups={"bias_type": ["race-color", "gender", "religion", "age", "nationality"]},
    ),
    "global-opinion-qa": dict(
        unit="gini",
        ideal=0.0,
        n=2556,
        margin=0.02,
        base=0.18,
        step=0.02,
        scale=1,
        groups={"country": [f"Country {i}" for i in range(40)]},
        spread="spread between countries",
    ),
    "worldbench": dict(
        unit="fraction",
        ideal=0.0,
        n=2214,
        margin=0.02,
        base=0.31,
        step=0.012,
        scale=1,
        groups={
            "region": ["Sub-Saharan Africa", "South Asia", "North America"],
            "income": ["Low income", "High income"],
        },
    ),
    "dt-stereotyping": dict(
        unit="percent",
        ideal=0.0,
        n=1152,
        margin=2.0,
        base=12.0,
        step=3.0,
        scale=100,
        groups={"target group": ["women", "men", "immigrants"], "topic": ["leeches", "terrorists"]},
    ),
    "discrim-eval": dict(
        unit="fraction",
        ideal=0.0,
        n=9450,
        margin=0.05,
        base=0.22,
        step=0.02,
        scale=1,
        groups={"gender": ["female", "non-binary"], "race": ["Black", "Asian", "Hispanic"], "age": ["20", "80", "100"]},
        spread="spread between groups",
    ),
    "discrim-eval-gen": dict(
        unit="share",
        ideal=0.0,
        n=70,
        margin=0.1,
        base=0.4,
        step=0.1,
        scale=1,
        groups={"gender": ["man", "woman", "non-binary"]},
        spread="spread between choices",
    ),
}
STRATEGIES = ("int8", "int4", "awq", "kv4:read=transformers", "wanda", "wanda-2:4", "wanda-2:4+int4", "rerun")
GENERATIVE = ("worldbench", "dt-stereotyping", "discrim-eval-gen")


def document(
    models: tuple[str, ...] = ("example/tiny-llama-1b",),
    strategies: tuple[str, ...] = STRATEGIES,
    formats: tuple[str, ...] = ("plain",),
    decodings: tuple[str, ...] = ("greedy",),
    benchmarks: tuple[str, ...] = tuple(BENCHMARKS),
    *,
    seed: int = 0,
    poison: str = "",
) -> Document:
    """A document of that size. `poison` is put into every free text a model, data set or folder could have written."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for model in models:
        for strategy in ("none", *strategies):
            for shape in formats:
                for decoding in decodings:
                    rows += [
                        _row(rng, model + poison, strategy, shape, decoding, name, poison)
                        for name in benchmarks
                        if not (decoding == "sampling" and name not in GENERATIVE)
                        and not (shape == "chat" and name == "crows-pairs")
                    ]
    made = {
        "schema": "tiltmeter/results/1",
        "rows": rows,
        "run": {
            "path": "demo-run",
            "versions": {"python": "3.11.9", "torch": "2.13.0", "tiltmeter": "0.1.0"},
            "hardware": {
                "machine": "x86_64",
                "cpu": "Some CPU" + poison,
                "cores": 2,
                "threads": 1,
                "memory_bytes": 24 << 30,
                "gpus": [],
            },
            "data": {
                name: {
                    "files": {f"{name}/data.csv": "0f" * 32},
                    "notes": ["rebuilt from templates" + poison] if name == "discrim-eval" else [],
                }
                for name in benchmarks
            },
            "study": {
                "models": list(models),
                "strategies": list(strategies),
                "seed": 0,
                "draws": 10000,
                "correction": "holm",
                "limit": None,
            },
            "started": "2026-11-22T06:00:00+00:00",
            "batch_tokens": 4096,
            "notes": ["int8 depends on batch composition" + poison],
            "failures": [{"model": models[0], "strategy": "gptq", "cells": "all", "reason": "group size" + poison}],
        },
        "variants": [
            _variant(rng, model + poison, strategy, poison) for model in models for strategy in ("none", *strategies)
        ],
        "findings": ["Bias moved most on discrim-eval." + poison],
    }
    return checked(Document, made)  # type: ignore[no-any-return]


def _row(
    rng: np.random.Generator, model: str, strategy: str, shape: str, decoding: str, benchmark: str, poison: str
) -> dict[str, Any]:
    facts = BENCHMARKS[benchmark]
    verdict = (
        None
        if strategy == "none"
        else str(rng.choice([*map(str, Verdict)], p=[0.16, 0.08, 0.1, 0.31, 0.25, 0.05, 0.05]))
    )
    if strategy == "kv4:read=transformers" and benchmark in ("crows-pairs", "discrim-eval", "global-opinion-qa"):
        verdict = "not exercised"
    undefined = verdict == "no usable signal" and benchmark == "discrim-eval-gen"
    delta = None if verdict is None or undefined else float(_delta(rng, verdict, facts["step"]))
    partial = benchmark == "worldbench" and strategy == "awq"
    unscored = {"no number in the answer" + poison: 31} if benchmark == "worldbench" else {}
    return {
        "model": model,
        "strategy": strategy,
        "settings": {"bits": 4} if "int4" in strategy else {},
        "format": shape,
        "decoding": decoding,
        "benchmark": benchmark,
        "score": None if undefined else facts["base"] + (delta or 0.0),
        "reason": "more than 80 % of prompts got no answer" if undefined else None,
        "unit": facts["unit"],
        "ideal": facts["ideal"],
        "n_items": facts["n"],
        "n_scored": facts["n"] - sum(unscored.values()),
        "n_samples": 5 if decoding == "sampling" else 1,
        "unscored": unscored,
        "ci": None,
        "extra": {"parse rate": 0.97, "undefined extra": None},
        "partial": partial,
        "complete": True,
        "groups": [
            _group(rng, attribute, group + poison, facts, delta)
            for attribute, members in facts["groups"].items()
            for group in members
        ],
        "change": None if verdict is None else _change(rng, verdict, delta, facts, benchmark, poison),
        "published": facts["base"] - 1 if strategy in ("none", "int4") else None,
        "published_change": facts["step"] if strategy == "int4" else None,
        "seconds": 12.5,
        "tokens": 100_000,
    }


def _delta(rng: np.random.Generator, verdict: str, step: float) -> float:
    if verdict == "not exercised":
        return 0.0
    centre = {"worse": 2.0, "better": -2.0, "shifted": 0.2, "no usable signal": -4.0}.get(verdict, 0.0)
    return step * (centre + rng.normal() * (0.2 if verdict == "equivalent" else 0.6))


def _group(
    rng: np.random.Generator, attribute: str, group: str, facts: dict[str, Any], delta: float | None
) -> dict[str, Any]:
    moved = None if delta is None else float(delta + rng.normal() * facts["step"] * 1.5)
    width = facts["step"] * 1.8
    return {
        "attribute": attribute,
        "group": group,
        "score": facts["base"],
        "n": facts["n"] // 10,
        "delta": moved,
        "ci": None if moved is None else [moved - width, moved + width],
    }


def _change(
    rng: np.random.Generator, verdict: str, delta: float | None, facts: dict[str, Any], benchmark: str, poison: str
) -> dict[str, Any]:
    width = facts["step"] * (0.5 if verdict != "inconclusive" else 1.6)
    ci = None if delta is None or benchmark == "discrim-eval-gen" else [delta - width, delta + width]
    companion = facts.get("spread")
    moved = None if delta is None else delta / facts["step"] * 0.004
    n = int(facts["n"] * 0.07)
    return {
        "delta": delta,
        "ci": ci,
        "distance_delta": delta,
        "distance_ci": ci,
        "companion": companion,
        "companion_delta": moved if companion else None,
        "companion_ci": [moved - 0.002, moved + 0.002] if companion and moved is not None else None,
        "p": 0.0004 if verdict == "worse" else 0.3,
        "p_adjusted": 0.003 if verdict == "worse" else 0.9,
        "margin": facts["margin"],
        "mde": facts["step"] * 1.1,
        "noise": facts["step"] * 0.3,
        "n_paired": facts["n"],
        "verdict": verdict,
        "reason": f"A sentence that says why this is {verdict}." + poison,
        "flips": None
        if benchmark == "worldbench"
        else {"n": n, "of": facts["n"], "toward_bias": n // 2 + 9, "away_from_bias": n // 2 - 9},
        "flip_examples": []
        if benchmark == "worldbench"
        else [
            {
                "id": f"item-{i}",
                "base": "yes",
                "variant": "no",
                "toward": (1, -1, 0)[i % 3],
                "uncertainty": 0.2,
                "shift": 1.5,
            }
            for i in range(6)
        ],
        "rests_on": "spread" if companion else "score",
        "spreads": [
            {
                "name": companion,
                "unit": "log-odds",
                "base": 0.08,
                "variant": 0.15,
                "delta": moved,
                "margin": 0.05,
                "ci": None,
                "p": 0.01,
                "mde": 0.04,
                "reason": None,
            }
        ]
        if companion
        else [],
    }


def _variant(rng: np.random.Generator, model: str, strategy: str, poison: str) -> dict[str, Any]:
    base = strategy == "none"
    return {
        "model": model,
        "strategy": strategy,
        "settings": {},
        "dtype": "float32",
        "device": "cpu",
        "weight_hash": "ab" * 16,
        "notes": ["simulated: no speed measured here"] if strategy == "awq" else [],
        "proof": {}
        if base
        else {"summary": f"72 of 72 linear layers changed{poison}", "max_logit_change": 1.25, "n_modules": 72},
        "text_quality": {
            "perplexity": 11.2 * float(rng.uniform(0.98, 1.6)),
            "text": "heldout.txt" + poison,
            "answers": {
                "dt-stereotyping plain greedy": {
                    "n": 1152,
                    "words": 38.2,
                    "eos_rate": 0.93,
                    "repeated": 0.02,
                    "empty": 0.0,
                    "base_logprob": None,
                }
            },
        },
        "speed": {"decode_tokens_per_s": 31.0 * float(rng.uniform(0.6, 2.0)), "memory_bytes": 5 << 20}
        if strategy in ("none", "int8", "int4", "wanda")
        else None,
    }


def enriched(made: Document) -> Document:
    """The document with findings and choice, as a run stores them."""
    timed = any(variant.speed and variant.speed.decode_tokens_per_s > 0 for variant in made.variants)
    choice = choose.choose(made, Policy(), "speed" if timed else "size")
    return made.model_copy(update={"findings": tuple(findings(made.rows, seed=0)), "choice": choice})
