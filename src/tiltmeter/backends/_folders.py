"""Checkpoints loaded by an engine of its own (vLLM, SGLang) behind its lm-evaluation-harness class.

Such an engine reads a folder and nothing else, so a strategy can reach it only as a compressed checkpoint: what
llm-compressor and the pruners write into the cache, or a ready-made one, as it is (nothing is converted for
transformers). Base and variants run in it alike, in one type.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from abc import abstractmethod
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from tiltmeter.backends import _probe
from tiltmeter.backends.base import Answering, Backend, Identity
from tiltmeter.errors import UserError
from tiltmeter.messages import say
from tiltmeter.models import folders, reading
from tiltmeter.models.address import is_address
from tiltmeter.models.formats.gguf.source import is_gguf
from tiltmeter.models.resolve import resolve
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.variants import apply
from tiltmeter.variants.ready_made import differences, end_ids

if TYPE_CHECKING:
    from pathlib import Path

    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.strategies.base import Strategy
    from tiltmeter.study import VariantSpec

BATCH_TOKENS = 8192  # one call of the engine takes eight times as many; it makes its own batches of them


class LoadsFolders(Backend):
    """Subclasses name the package and say how its engine is made and asked."""

    package: ClassVar[str]  # and the name of lm-eval's class

    @abstractmethod
    def settings(self, checkpoint: Path, tokenizer: Path, dtype: str) -> dict[str, Any]:
        """Arguments of lm-eval's class for one folder."""

    @abstractmethod
    def asking(self, variant: LoadedVariant, lm: Any, batch_tokens: int) -> Any:
        """The engine (`_lm_eval.LmEvalEngine`) around a loaded one."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._lm: Any = None  # of the loaded variant; there is at most one

    def check(self) -> None:
        from tiltmeter.backends._lm_eval import lm_class

        self.refuse(_no_checkpoint, f"leave out --backend {self.package}: the built-in engine runs it")
        if find_spec(self.package) is None:
            raise UserError(
                f"--backend {self.package} needs the package {self.package!r}, which is not installed",
                fix=f'pip install {self.package} "tiltmeter[lm-eval]"',
            )
        lm_class(self.package)

    def identity(self, source: str) -> Identity:
        if is_gguf(source):
            raise UserError(
                f"{source} is a GGUF file, which --backend {self.package} is not given",
                fix="leave --backend out: the built-in engine reads it",
            )
        folder = resolve(source)
        return Identity(
            reading.load_tokenizer(folder, source),
            apply.fingerprint(source),
            self.dtype_of(source),
            {"backend": self.package},
        )

    def load(self, spec: VariantSpec) -> LoadedVariant:
        from tiltmeter.backends._lm_eval import Refused, lm_class, made

        self._stop()  # one whose variant was refused after it had started
        known = self.identity(spec.source)
        context = apply.compressed(
            spec.source,
            spec.chain,
            device=self.study.device,
            dtype=known.dtype,
            calibration=self.study.calibration,
            seed=self.study.seed,
            progress=self.say,
        )
        folder = resolve(spec.source)
        with contextlib.redirect_stdout(sys.stderr):  # results go to stdout, these engines' logs must not
            self._lm = made(
                lm_class(self.package),
                f"--backend {self.package}",
                **self.settings(context.checkpoint, folder, context.dtype),
            )
        longest = int(
            getattr(context.config.get_text_config(decoder=True), "max_position_embeddings", None) or reading.NO_LIMIT
        )
        variant = LoadedVariant(
            model_name=spec.source,
            strategy=spec.strategy,
            model=None,  # type: ignore[arg-type]
            tokenizer=known.tokenizer,
            device=self.study.device,
            dtype=context.dtype,
            eos_ids=frozenset(end_ids(folder, context.config)),
            max_length=min(longest, int(self._lm.max_length)) - 1,  # these engines write one token even when they score
            weight_hash=known.weight_hash,
            settings=spec.chain.settings,
            notes=list(context.notes),
            proof={
                "checkpoint_bytes": folders.weights_on_disk(context.checkpoint),
                "summary": say("served.in_engine", name=self.package),
            },
        )
        pairs = [(ids, [token]) for ids, token in _probe.questions(known.tokenizer)]
        found = [
            float("nan") if isinstance(value, Refused) else value
            for value in self.asking(variant, self._lm, BATCH_TOKENS).logprobs(pairs)
        ]
        if spec.source != spec.model and not is_address(spec.model):
            differing = differences(spec.model, spec.source)
            variant.proof["differences"] = [each.as_json() for each in differing]
            variant.notes += [each.text for each in differing]
        if spec.source != spec.model or any(not part.redraws for part in spec.chain.parts):
            _probe.compare(variant, found, self.probed(spec.model))
        else:
            variant.proof["probe_logprobs"] = found
        return variant

    def engine(self, variant: LoadedVariant, batch_tokens: int) -> Answering:
        return self.asking(variant, self._lm, batch_tokens)  # type: ignore[no-any-return]

    def auto_batch_tokens(self, variant: LoadedVariant) -> int:
        return BATCH_TOKENS

    def release(self, variant: LoadedVariant) -> None:
        self._stop()

    def _stop(self) -> None:
        """The next engine needs the memory: this one is told to stop where it can be told."""
        import torch

        stop = getattr(getattr(self._lm, "model", None), "shutdown", None)
        if stop is not None:
            stop()
        self._lm = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _no_checkpoint(part: Strategy) -> str | None:
    if part.makes_checkpoint or part.redraws or part.runs_in:
        return None
    return f"{part.name} acts while transformers runs the model, not by a checkpoint on disk"
