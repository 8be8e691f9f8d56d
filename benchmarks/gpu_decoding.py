"""Checks of decoding on a card: the kernel, captured steps, and what a step costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu_models import Models
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring import reference
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.kernels.attention import Scores
from tiltmeter.scoring.kernels.decode_attention import decode_attention, kernel_fits
from tiltmeter.scoring.kernels.decode_definition import Now, plain
from tiltmeter.scoring.methods import Trees
from tiltmeter.scoring.requests import Generation, Request
from tiltmeter.scoring.selftest import Choice
from tiltmeter.scoring.writing import Writing


class Decoding(Models):
    """Each check returns facts to keep, or raises."""

    def decode_kernel(self) -> dict[str, Any]:
        """The Triton kernel against its definition in float64; milliseconds of a layer of 512 rows of the 8B shape."""
        if not kernel_fits(self.where.partition(":")[0], torch.bfloat16, 128):
            return {"skipped": "no card, or no Triton"}
        found: dict[str, Any] = {}
        for dtype, most in ((torch.float32, 1e-4), (torch.bfloat16, 0.03), (torch.float16, 0.004)):
            worst = 0.0
            for size, window, softcap in ((64, None, None), (80, 100, None), (128, None, 30.0), (256, 64, None)):
                arguments = self.rows_of_keys(24, size, torch.float64)
                wanted = plain(*cast(arguments, dtype, torch.float64), Scores(0.1, softcap), window)
                given = decode_attention(*cast(arguments, dtype, dtype), Scores(0.1, softcap), window)
                worst = max(worst, float((given.double() - wanted).abs().max()))
            found[str(dtype)] = worst
            if worst > most:
                raise AssertionError(f"{dtype}: off by {worst:.2g}")
        arguments = cast(self.rows_of_keys(512, 128, torch.bfloat16), torch.bfloat16, torch.bfloat16)
        found["ms_512_rows"] = self.milliseconds(lambda: decode_attention(*arguments, Scores(0.1)), 20)
        return found

    def rows_of_keys(self, n_rows: int, size: int, dtype: torch.dtype) -> tuple[Any, ...]:
        """Random queries and keys of decoding rows with 32 query heads and 8 of keys, of many lengths."""
        generator = torch.Generator(self.where).manual_seed(0)

        def numbers(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, device=self.where, dtype=dtype)

        lengths = torch.arange(n_rows, device=self.where, dtype=torch.int32)
        parts = [(numbers(rows, 8, 320, size), numbers(rows, 8, 320, size)) for rows in (n_rows + 1, n_rows // 4, 1)]
        now = Now(
            torch.arange(n_rows, device=self.where).flip(0),
            torch.arange(n_rows, device=self.where) // 4,
            torch.tensor([300], dtype=torch.int32, device=self.where),
            lengths * 7 % 301,
            lengths % 257 + 1,
        )
        return numbers(32, n_rows, size), *parts, now

    def milliseconds(self, call: Callable[[], Any], times: int) -> float:
        """Of one call, after one that warms up."""
        call()
        if self.on_card:
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(times):
            call()
        if self.on_card:
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - started) / times

    def captured_texts(self) -> dict[str, Any]:
        """In float32 captured steps write the reference's texts, greedy and sampled; in bfloat16 those of the same
        kernel launched step by step. A capture that is refused fails."""
        found: dict[str, Any] = {}
        for shape, dtype in (("15m", torch.float32), ("135m", torch.bfloat16))[: 2 if self.on_card else 1]:
            variant = self.variant(shape, dtype)
            asked = [request.prompt for request in self.requests(variant, "dt-stereotyping", 24)]
            requests: list[Request] = [Generation(prompt, 30 + place % 7) for place, prompt in enumerate(asked)]
            requests += [Generation(prompt, 24, 1.0, 1.0, seed) for prompt in asked[:4] for seed in range(5)]
            texts = {way: self.written(variant, requests, way) for way in ("captured", "kernel", "parts")}
            if dtype == torch.float32:
                texts["kernel"] = [reference.answer(variant, request) for request in requests]
            same = sum(one == other for one, other in zip(texts["captured"], texts["kernel"], strict=True))
            found[shape] = {"same": same, "of": len(requests)}
            if same < 0.95 * len(requests):
                raise AssertionError(f"{shape}: {same} of {len(requests)} texts are the same")
        return found

    def written(self, variant: LoadedVariant, requests: list[Request], way: str) -> list[Any]:
        """What an engine answers that decodes in one given way."""
        engine = Engine(variant, batch_tokens=1024)
        engine._writer = Choice(Trees(variant, sparse=True, decoding=way))  # type: ignore[arg-type]
        answers = engine.answer(requests)
        if engine.notes:
            raise AssertionError(str(engine.notes[0]))
        return answers

    def step_times(self) -> dict[str, Any]:
        """Milliseconds of a decoding step of 512 and 1,024 rows, by each way, in two layers of the 8B shape; the
        rest of an answer (prefill, captures) is in none of them."""
        found = {}
        variant = self.variant(*(("8b-wide", torch.bfloat16) if self.on_card else ("15m", torch.float32)))
        for rows in (512, 1024) if self.on_card else (16,):
            for way in ("parts", "kernel", "captured"):
                seconds = []
                for new in (17, 81):  # the difference is 64 steps
                    trees = Trees(variant, sparse=True, decoding=way)
                    self.write_rows(trees, rows, new)  # captures and warms up
                    started = time.perf_counter()
                    self.write_rows(trees, rows, new)
                    seconds.append(time.perf_counter() - started)
                found[f"{way} {rows} rows"] = {
                    "ms_per_step": 1000 * (seconds[1] - seconds[0]) / 64,
                    "notes": [str(note) for note in trees.notes],
                }
        return found

    def write_rows(self, trees: Trees, rows: int, new: int) -> None:
        prompts = [[1, 5, 6, 7 + row // 9000, 20 + row] for row in range(rows)]
        writings = [[Writing(Generation("", new), frozenset())] for _ in prompts]
        with torch.inference_mode():
            trees.write(prompts, writings, rows=rows, budget=4096)
        if self.on_card:
            torch.cuda.synchronize()

    def launches(self) -> dict[str, Any]:
        """Kernels that one eager decoding step of two layers launches, part by part and by the one kernel."""
        from torch.profiler import ProfilerActivity, profile

        variant = self.variant(*(("8b-wide", torch.bfloat16) if self.on_card else ("15m", torch.float32)))
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_card else [])]
        found = {}
        for way in ("parts", "kernel"):
            trees = Trees(variant, sparse=True, decoding=way)
            counts = []
            for new in (3, 13):
                with profile(activities=kinds) as seen:
                    self.write_rows(trees, 512 if self.on_card else 16, new)
                counts.append(sum(e.count for e in seen.key_averages() if "aunchKernel" in e.key))
            found[way] = (counts[1] - counts[0]) / 10
        return found


def cast(arguments: tuple[Any, ...], through: torch.dtype, dtype: torch.dtype) -> tuple[Any, ...]:
    """Rounded to `through`, held as `dtype`."""
    query, *parts, now = arguments
    rounded = [tuple(side.to(through).to(dtype) for side in part) for part in parts]
    return query.to(through).to(dtype), *rounded, now
