"""GGUF files in llama.cpp's own kernels, in this process: what half of all users run.

The file brings tokenizer, chat template and end tokens; no Hugging Face folder is needed. Variants are made by
llama.cpp's own quantizer from a file of high precision (``-s q4_k_m``) and by its cache types
(``-s ctk=q8_0,ctv=q8_0``), or lie there already (`tiltmeter compare BASE.gguf VARIANT.gguf`). Where the base is a
folder that transformers runs, it stays there: then the GGUF file of the same weights is a control for what the other
engine changes.

Departure   base and weight variants keep keys and values in float32 (`models.formats.gguf.library.CacheTypes`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from tiltmeter.backends import _probe
from tiltmeter.backends.base import Answering, Backend, Identity
from tiltmeter.errors import UserError
from tiltmeter.messages import Text, join
from tiltmeter.models.address import is_address
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.difference import READS_TOKENS, WRITES, Difference
from tiltmeter.models.folders import fingerprint_files
from tiltmeter.models.formats.gguf.header import read_header
from tiltmeter.models.formats.gguf.source import is_gguf, locate
from tiltmeter.models.reading import load_tokenizer, pick_device
from tiltmeter.models.resolve import resolve
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.registry import register
from tiltmeter.strategies.base import Context, figures
from tiltmeter.strategies.gguf_type import LIBRARY
from tiltmeter.variants.ready_made import other_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tiltmeter.study import VariantSpec

BATCH_TOKENS = 512  # llama.cpp's own; 64 rows decode side by side
DTYPE = "float32"  # of activations and logits


@register("backend", "llama-cpp")
class LlamaCpp(Backend):
    """One file at a time; base and variants in the same library."""

    about = "GGUF files in llama.cpp's own kernels, with its tokenizer, quantizer and cache types"
    runs_on = "CPU"
    source = "llama-cpp-python (llama.cpp)"

    def check(self) -> None:
        from tiltmeter.models.formats.gguf import library

        if pick_device(self.study.device) != "cpu" and self.study.device != "auto":
            raise UserError("--backend llama-cpp runs on the CPU here", fix="leave --device out")
        for spec in self.study.variants():
            if is_gguf(spec.source):
                for part in spec.chain.parts:
                    if part.library != LIBRARY and not part.redraws:
                        raise UserError(
                            f"{part.name} changes a model that transformers runs; {spec.source} runs in llama.cpp",
                            fix=f"name the model's folder or hub id: tiltmeter run MODEL -s {part.name} --out RUN",
                        )
        library.package()
        for model in filter(is_gguf, self.study.models):
            for spec in self.study.variants():
                if spec.source == model:
                    context = self._context(model)
                    for part in spec.chain.parts:
                        part.check(context)

    def identity(self, source: str) -> Identity:
        if not is_gguf(source):
            raise UserError(f"{source} is no GGUF file", fix="leave --backend out: the built-in engine reads it")
        file = _checked(source)
        return Identity(tokenizer(source), fingerprint_files([file], file.parent), DTYPE, {"backend": "llama-cpp"})

    def load(self, spec: VariantSpec) -> LoadedVariant:
        from tiltmeter.models.formats.gguf import library

        context = self._context(spec.source)
        options: dict[str, Any] = {}
        for part in spec.chain.parts:
            part.check(context)
        for part in spec.chain.parts:
            part.before_loading(context)
        for part in spec.chain.parts:
            options |= part.loading_options(context)
        weights = library.Weights(context.checkpoint)
        types = library.CacheTypes(**options)
        running = library.Context(weights, types, threads=threads())
        variant = LoadedVariant(
            model_name=spec.source,
            strategy=spec.strategy,
            model=library.OneAtATime(running),  # type: ignore[arg-type]
            tokenizer=context.tokenizer,
            device="cpu",
            dtype=DTYPE,
            eos_ids=tokenizer(spec.source).end_ids,
            max_length=min(weights.trained_length, running.cells),
            weight_hash=context.lineage[0],
            settings=spec.chain.settings,
            share_prefixes=weights.shares and types.shares,
            notes=list(context.notes),
        )
        self._prove(variant, spec, context, weights)
        return variant

    def engine(self, variant: LoadedVariant, batch_tokens: int) -> Answering:
        from tiltmeter.backends._llama_engine import LlamaEngine

        return LlamaEngine(variant, variant.model.context, batch_tokens=batch_tokens)  # type: ignore[arg-type]

    def auto_batch_tokens(self, variant: LoadedVariant) -> int:
        return BATCH_TOKENS

    def release(self, variant: LoadedVariant) -> None:
        if variant.model is not None:
            context: Any = variant.model.context
            context.close()
            context.weights.close()
        variant.model = None  # type: ignore[assignment]

    def _context(self, source: str) -> Context:
        file = _checked(source)
        return Context(
            model=source,
            checkpoint=file,
            config=None,  # type: ignore[arg-type]
            tokenizer=tokenizer(source),
            device="cpu",
            dtype=DTYPE,
            base_dtype=DTYPE,
            calibration=self.study.calibration,
            artifacts=Artifacts(),
            lineage=(fingerprint_files([file], file.parent),),
            progress=self.say,
            seed=self.study.seed,
        )

    def _prove(self, variant: LoadedVariant, spec: VariantSpec, context: Context, weights: Any) -> None:
        """What the variant is, and that it answers otherwise than its base. Raises DidNothing where it does not."""
        from tiltmeter.models.formats.gguf.library import versions
        from tiltmeter.scoring.reference import option_logprobs

        counts = read_header(context.checkpoint, spec.source).counts
        steps = {part.name: figures(part.prove(variant, context)) for part in spec.chain.parts}
        listed = ", ".join(f"{n} × {kind}" for kind, n in counts.items())
        base = [f"GGUF in llama.cpp (tensors {listed})"] if not steps else []
        variant.proof = {
            "summary": join("join.clauses", [*base, *(cast(Text, step["summary"]) for step in steps.values())]),
            "dtype": DTYPE,
            "device": "cpu",
            "steps": steps,
            "types": counts,
            "checkpoint_bytes": context.checkpoint.stat().st_size,
            "weight_bytes": weights.n_bytes,
            "engine": {**versions(), "threads": threads()},
        }
        found = [option_logprobs(variant, ids, [token])[0] for ids, token in _probe.questions(variant.tokenizer)]
        if spec.source != spec.model and not is_address(spec.model):
            differing = differences(spec.model, spec.source)
            variant.proof["differences"] = [each.as_json() for each in differing]
            variant.notes += [each.text for each in differing]
        if spec.source != spec.model or any(not part.redraws for part in spec.chain.parts):
            self._compare(variant, spec, found)
        else:
            variant.proof["probe_logprobs"] = found

    def _compare(self, variant: LoadedVariant, spec: VariantSpec, found: list[float]) -> None:
        if is_gguf(spec.model) or is_address(spec.model):
            _probe.compare(variant, found, self.probed(spec.model))
            return
        base = _probe.of_checkpoint(spec.model, variant.tokenizer, "cpu", "float32")
        _probe.compare(variant, found, base, control="same model, other engine (llama.cpp)")


def threads() -> int:
    """Of llama.cpp's pool: as many as torch would use, so that OMP_NUM_THREADS holds for both."""
    import torch

    return torch.get_num_threads()


@lru_cache(maxsize=4)
def tokenizer(source: str) -> Any:
    """The file's own (`GgufTokenizer`)."""
    from tiltmeter.models.formats.gguf.tokenizer import GgufTokenizer

    return GgufTokenizer(_checked(source), source)


def differences(base: str, variant: str) -> list[Difference]:
    """What is asked otherwise of a ready-made file than of its base (a GGUF file, or a folder); no weight is read."""
    ours: Any = tokenizer(base) if is_gguf(base) else load_tokenizer(resolve(base), base)
    theirs = tokenizer(variant)
    found = list(other_tokenizer(ours, theirs))
    if ours.chat_template != theirs.chat_template:
        text = "chat template: the files' texts differ, so prompts in chat format are not the same text"
        found.append(Difference("chat template", text, (*READS_TOKENS, *WRITES), chat_only=True))
    ends = ours.end_ids if is_gguf(base) else {ours.eos_token_id}
    if not ends <= theirs.end_ids or (is_gguf(base) and ends != theirs.end_ids):
        text = f"generation ends at {sorted(theirs.end_ids)} instead of {sorted(ends)}, so answers differ in length"
        found.append(Difference("end tokens", text, WRITES))
    if is_gguf(base):
        headers = [read_header(_checked(name), name) for name in (base, variant)]
        shapes = [{name: shape for name, shape in header.shapes.items()} for header in headers]
        if headers[0].architecture != headers[1].architecture or shapes[0] != shapes[1]:
            text = "another architecture or other sizes: a change shows the difference between two models"
            found.append(Difference("architecture", text))
    return found


@lru_cache(maxsize=8)
def _checked(source: str) -> Path:
    """The file, its header read by the bounded reader first. Raises UserError for one that is broken."""
    file = locate(source)
    read_header(file, source)
    return file
