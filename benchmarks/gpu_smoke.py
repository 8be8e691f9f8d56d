"""Checks for the first minutes on a card: does the engine give the reference's numbers there, and by its fast way?

    TILTMETER_SHARED=.carry python -m benchmarks.gpu_smoke [--only NAME …] [--skip NAME …]   (see gpu_carry)

Each check prints one line and is written to $OUT/gpu_smoke.json (else benchmarks/results) as soon as it is done; one
that fails does not stop the others, unless the card itself is lost. Strict mode is on: a fallback is a failure.
Random models in real shapes and a trained toy model; a few seconds each. ``--device cpu`` tries the script where there
is no card.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tiltmeter.scoring
from benchmarks.gpu_decoding import Decoding
from tiltmeter.scoring import budget, device, reference
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.kernels.attention import Scores, partial_attention
from tiltmeter.scoring.requests import Generation, OptionProbs, Request, SequenceLogprob
from tiltmeter.scoring.sampling import choose_token
from tiltmeter.scoring.selftest import Forked, choose_scorer, choose_writer, rounding_noise
from tiltmeter.scoring.writing import choose_tokens

RESULTS = Path(os.environ.get("OUT") or Path(__file__).parent / "results")


class Smoke(Decoding):
    """The checks, in order; each returns facts to keep, or raises."""

    def environment(self) -> dict[str, Any]:
        """Every module of scoring loads; versions; products of float32 are not rounded."""
        for module in pkgutil.walk_packages(tiltmeter.scoring.__path__, "tiltmeter.scoring."):
            if self.on_card or not module.name.endswith("decode_kernel"):  # which needs Triton
                importlib.import_module(module.name)
        device.prepare(self.where)
        if torch.backends.cuda.matmul.allow_tf32:
            raise AssertionError("TF32 is on")
        return {
            "card": torch.cuda.get_device_name() if self.on_card else platform.processor(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "free_bytes": budget.free_bytes(self.where),
        }

    def float32_scores(self) -> dict[str, Any]:
        """Engine against reference, within 1e-4 nats per 32 tokens, by prefix trees."""
        found = {}
        for shape in ("15m", "135m"):
            variant = self.variant(shape, torch.float32)
            asked = [
                request for name in ("crows-pairs", "discrim-eval") for request in self.requests(variant, name, 24)
            ]
            engine = Engine(variant, batch_tokens=1024)
            gaps = []
            for request, answer in zip(asked, engine.answer(asked), strict=True):
                wanted = reference.answer(variant, request)
                if isinstance(request, SequenceLogprob):
                    gaps.append(abs(answer.logprob - wanted.logprob) / max(1, wanted.n_tokens / 32))
                else:
                    gaps.append(float(np.abs(np.subtract(answer.logprobs[0], wanted.logprobs[0]).astype(float)).max()))
            found[shape] = {"largest_gap_nats": max(gaps), "methods": engine.outcomes}
            if max(gaps) > 1e-4:
                raise AssertionError(f"{shape}: {max(gaps):.2g} nats")
        return found

    def float32_texts(self) -> dict[str, Any]:
        """Greedy texts and samples are the reference's, token by token; near ties are counted."""
        variant = self.variant("15m", torch.float32)
        prompts = [request.prompt for request in self.requests(variant, "dt-stereotyping", 8)]
        asked: list[Request] = [Generation(prompt, 64) for prompt in prompts]
        asked += [Generation(prompt, 32, 1.0, 1.0, seed) for prompt in prompts[:4] for seed in range(5)]
        found = Engine(variant, batch_tokens=1024).answer(asked)
        same = sum(answer == reference.answer(variant, request) for answer, request in zip(found, asked, strict=True))
        if same < 0.95 * len(asked):
            raise AssertionError(f"{same} of {len(asked)} texts are the reference's")
        return {"same": same, "of": len(asked)}

    def bfloat16_methods(self) -> dict[str, Any]:
        """Prefix trees whatever the size of the logits."""
        found = {}
        for shape, head in (("135m", 1.0), ("135m", 8.0), ("stories", 1.0), ("stories", 8.0), ("8b-wide", 1.0)):
            variant = self.variant(shape, torch.bfloat16, head)
            choices = choose_scorer(variant), choose_writer(variant)
            found[f"{shape} x{head:g}"] = {
                "methods": [str(choice.method.name) for choice in choices],
                "notes": [str(note) for choice in choices for note in choice.notes],
                "own_rounding_nats": rounding_noise(Forked(variant)),
            }
        return found

    def attention(self) -> dict[str, Any]:
        """Attention in parts, in half precision, against float64: bias, an empty row, soft cap, odd sizes."""
        torch.manual_seed(0)
        worst = 0.0
        for keys in (151, 257, 300):
            for softcap in (None, 30.0):
                query, key, value = (torch.randn(4, 2, n, 64, device=self.where).bfloat16() for n in (4, keys, keys))
                hidden = torch.rand(4, 1, 4, keys, device=self.where) < 0.3
                hidden[0, 0, 0] = True
                bias = torch.zeros(hidden.shape, device=self.where, dtype=torch.bfloat16)
                bias.masked_fill_(hidden, torch.finfo(torch.bfloat16).min)
                out, _ = partial_attention(query, key, value, bias, Scores(0.125, softcap))
                products = query.double() @ key.double().transpose(-1, -2) * 0.125
                products = products if softcap is None else softcap * torch.tanh(products / softcap)
                shares = products.masked_fill(hidden, -torch.inf).softmax(-1).nan_to_num()
                gap = (out.double() - shares @ value.double()).abs()
                gap[0, :, 0] = 0  # a row that sees nothing weighs nothing when parts are merged
                worst = max(worst, float(gap.max()))
        if worst > 0.03:  # three units of bfloat16 near 1
            raise AssertionError(f"off by {worst:.2g}")
        return {"largest_gap": worst}

    def sampling(self) -> dict[str, Any]:
        """Choosing on the device is choosing on the host, over 128,256 ids, and hardly ever asks the host."""
        rng = np.random.Generator(np.random.PCG64(1))
        logits = rng.normal(0, 1.3, (256, 128_256)).astype(np.float32)
        heat, mass, draws = rng.choice([0.7, 1.0], 256), rng.choice([0.9, 1.0], 256), rng.random(256)
        rows = torch.from_numpy(logits).to(self.where)
        started = time.perf_counter()
        found = choose_tokens(rows, heat, mass, draws, rows.amax(-1))
        seconds = time.perf_counter() - started
        other = sum(a != choose_token(*row) for a, row in zip(found, zip(logits, heat, mass, draws), strict=True))
        if other > 2:  # exponentials of a GPU differ in their last bit; a nucleus may then end one id earlier
            raise AssertionError(f"{other} of 256 ids differ")
        return {"differ": other, "ms_per_256_rows": 1000 * seconds}

    def attention_plans(self) -> dict[str, Any]:
        """Milliseconds of twenty attention shapes seen for the first time, without cuDNN and with it."""
        found = {}
        for name, cudnn in (("without", False), ("with", True)):
            torch.backends.cuda.enable_cudnn_sdp(cudnn and self.on_card)
            started = time.perf_counter()
            for n in range(20):
                keys = 500 + 8 * n + 4 * cudnn
                query, key = (torch.randn(1, 8, size, 64, device=self.where).bfloat16() for size in (256, keys))
                bias = torch.zeros(1, 1, 256, keys, device=self.where, dtype=torch.bfloat16)
                torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=bias).sum().item()
            found[f"ms_{name}_cudnn"] = 1000 * (time.perf_counter() - started)
        device.prepare(self.where)
        return found

    def memory(self) -> dict[str, Any]:
        """Peak memory of a batch beside what the budget reckons with."""
        variant = self.variant("135m", torch.bfloat16 if self.on_card else torch.float32)
        engine = Engine(variant)
        requests = self.requests(variant, "crows-pairs", 400)
        if self.on_card:
            torch.cuda.reset_peak_memory_stats()
        engine.answer(requests)
        return {
            "budget": engine.batch_tokens,
            "rows": engine.rows,
            "reckoned_bytes": budget.bytes_per_token(variant) * engine.batch_tokens,
            "peak_bytes": torch.cuda.max_memory_allocated() if self.on_card else None,
        }

    def out_of_memory(self) -> dict[str, Any]:
        """A batch that does not fit gives back what it held."""
        if not self.on_card:
            return {"skipped": "no card"}
        variant = self.variant("15m", torch.float32)
        Engine(variant, batch_tokens=256).answer([SequenceLogprob("one two three")])
        before = torch.cuda.memory_allocated()
        torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5 * (before + 2**28) / budget.total_bytes(self.where)))
        try:
            Engine(variant, batch_tokens=2**17).answer(self.requests(variant, "crows-pairs", 4000) * 4)
            raised = None
        except Exception as error:
            raised = device.without_frames(error)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        if raised is None or not device.is_out_of_memory(raised):
            raise AssertionError(f"no shortage was met: {raised}")
        held = torch.cuda.memory_allocated() - before
        if held > 2**27:
            raise AssertionError(f"{held / 2**20:.0f} MiB are still held")
        return {"held_bytes": held}

    def strategies(self) -> dict[str, Any]:
        """Strategies prove that they acted, and what their self-tests choose. Needs the wheels of each; slow."""
        from tiltmeter.strategies.chain import parse
        from tiltmeter.variants import apply

        found: dict[str, Any] = {}
        folder = str(self.shared / "models" / "tinystories-656k")
        for strategy in ("int8", "int4", "kv8", "kv4", "magnitude", "dtype:float16"):
            try:
                variant = apply.load(folder, parse(strategy), device=self.where)
                os.environ.pop(device.STRICT, None)
                choices = choose_scorer(variant), choose_writer(variant)
                found[strategy] = {
                    "proof": str(variant.proof["summary"]),
                    "methods": [str(choice.method.name) for choice in choices],
                    "notes": [str(note) for choice in choices for note in choice.notes],
                }
            except Exception as error:
                if device.is_lost(error):
                    raise
                found[strategy] = {"failed": f"{type(error).__name__}: {error}"[:300]}
            finally:
                os.environ[device.STRICT] = "1"
        failed = [f"{name}: {each['failed']}" for name, each in found.items() if "failed" in each]
        if failed:
            raise AssertionError("; ".join(failed))
        return found

    def resume(self) -> dict[str, Any]:
        """A run that is killed and started again ends with the results of one that was not."""
        out = Path(os.environ.get("OUT") or "/tmp") / "smoke-runs"
        command = [sys.executable, "-m", "tiltmeter", "run", self.shared / "models" / "tinystories-656k"]
        command += ["-b", "dt-stereotyping", "--limit", "24", "--decoding", "sampling", "--data", self.shared / "data"]
        rows = []
        for name in ("whole", "killed"):
            if name == "killed":
                first = subprocess.Popen([*command, "--out", out / name])
                time.sleep(20)
                first.kill()
                first.wait()
            subprocess.run([*command, "--out", out / name], check=True)
            shown = subprocess.run(
                [sys.executable, "-m", "tiltmeter", "results", out / name, "--json"], capture_output=True, check=True
            )
            rows.append([row["score"] for row in json.loads(shown.stdout)["rows"]])
        if rows[0] != rows[1]:
            raise AssertionError(f"{rows[0]} and {rows[1]}")
        return {"scores": rows[0]}

    def repeats(self) -> dict[str, Any]:
        """The same batch gives the same bits again; how far another batch size moves it."""
        variant = self.variant("135m", torch.bfloat16)
        asked = self.requests(variant, "discrim-eval", 32)
        options = [request for request in asked if isinstance(request, OptionProbs)]
        engines = [Engine(variant, batch_tokens=size) for size in (1024, 1024, 512)]
        first, again, other = ([answer.logprobs[0][0] for answer in engine.answer(options)] for engine in engines)
        if first != again:
            raise AssertionError("the same batch gave other bits")
        return {"largest_move_of_another_size_nats": float(np.abs(np.subtract(first, other)).max())}


CHECKS = (
    "environment",
    "float32_scores",
    "float32_texts",
    "bfloat16_methods",
    "attention",
    "decode_kernel",
    "captured_texts",
    "sampling",
    "attention_plans",
    "memory",
    "out_of_memory",
    "repeats",
    "step_times",
    "launches",
    "strategies",
    "resume",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="*", choices=CHECKS, default=CHECKS)
    parser.add_argument("--skip", nargs="*", choices=CHECKS, default=())
    options = parser.parse_args()
    os.environ[device.STRICT] = "1"
    smoke = Smoke(options.shared, options.device)
    found: dict[str, Any] = {}
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        if name in options.skip:
            continue
        check: Callable[[], dict[str, Any]] = getattr(smoke, name)
        started = time.perf_counter()
        lost = False
        try:
            facts = {"passed": True, **check()}
        except Exception as error:
            lost = device.is_lost(error)
            facts = {"passed": False, "error": f"{type(error).__name__}: {error}"[:600]}
        found[name] = {**facts, "seconds": round(time.perf_counter() - started, 1)}
        (RESULTS / "gpu_smoke.json").write_text(json.dumps(found, indent=1, default=str) + "\n")
        print(name, json.dumps(found[name], default=str), flush=True)
        if lost:
            break
    sys.exit(not all(each["passed"] for each in found.values()))


if __name__ == "__main__":
    main()
