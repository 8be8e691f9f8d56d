"""From one checkpoint folder to a compressed one: the frame around llm-compressor's recipes and torch pruning.

Every compressed variant answers from the saved artifact, never from the model that was just compressed, so a
second run gives the same answers; the logits of the model in memory are stored with it and compared after loading.
Memory      one copy of the model in its run dtype, plus one block's calibration activations (llm-compressor
            works block by block); then the saved file.
Traps       1. llm-compressor's ``targets="Linear"`` as a string prunes nothing, its default prunes the output head:
               pruners get the names of the decoder blocks, and the result is measured.
            2. Without a GPU, AWQ fails pinning memory (`_pinning_needs_a_gpu`).
            3. `oneshot` wants a real folder in ``model.config.name_or_path`` and a processor.
            4. It logs to stdout, where tiltmeter prints results: both streams are held back.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tiltmeter.errors import UserError, missing_extra
from tiltmeter.models import linear
from tiltmeter.models.artifacts import Artifact
from tiltmeter.models.linear import Sparsity
from tiltmeter.models.probes import probe_logits
from tiltmeter.models.quiet import held_back
from tiltmeter.models.reading import load_model
from tiltmeter.strategies.base import Context, DidNothing, Strategy
from tiltmeter.strategies.calibration import Drawn, Windows

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Change = Callable[["PreTrainedModel"], None]  # compresses the model in place


@dataclass(frozen=True)
class Compressed(Sparsity):
    """What is known of a compressed checkpoint, kept with it."""

    quantized_layers: int = 0
    layer_names: Sequence[str] = ()  # of them
    layers: int = 0  # linear layers in decoder blocks
    roundings: Mapping[str, int] = field(default_factory=dict)  # how weights and inputs are rounded -> layers
    expert_matrices: int = 0
    lm_head_untouched: bool = True
    calibration: Drawn | None = None  # None: it looks at no text
    title: str = ""

    @classmethod
    def of(cls, artifact: Artifact) -> Compressed:
        """What an artifact's maker recorded; a record of an earlier version may lack what has a default."""
        known = {each.name: artifact.facts[each.name] for each in fields(cls) if each.name in artifact.facts}
        return cls(**{**known, "calibration": Drawn.of(known.get("calibration"))})


def compressed(
    strategy: Strategy,
    context: Context,
    change: Change,
    windows: Windows | None,
    *,
    keeps_zeros: bool = True,
    after_saving: Callable[[Path], None] | None = None,
) -> Artifact:
    """The artifact of `strategy` applied to `context.checkpoint`; becomes the context's checkpoint.

    Args:
        change: compresses a loaded model in place.
        windows: calibration windows that `change` uses (part of the key); None: it uses none.
        after_saving: puts right what a library has written, in the folder of the checkpoint.
        keeps_zeros: raise DidNothing when an earlier step's 2:4 pattern does not survive.
    """
    before = context.intact

    def make(folder: Path) -> Mapping[str, object]:
        from safetensors.torch import save_file

        looks_at = f" ({len(windows.ids)} calibration sequences)" if windows else ""
        context.progress(f"{strategy.name}: compressing{looks_at}")
        model = load_model(context.checkpoint, context.dtype, context.device)
        model.config.name_or_path = model.name_or_path = str(context.checkpoint)
        head = _head(model).clone()
        with held_back():
            change(model)
        facts = _facts(model)
        if not bool((_head(model) == head).all()):
            raise DidNothing(f"{strategy.name} changed the output head, which it must leave alone")
        if keeps_zeros and before and before > 0.999 and (facts.intact_2_4_share or 0) < 0.999:
            raise DidNothing(f"{strategy.name} destroyed the 2:4 pattern of an earlier step")
        save_file({"logits": probe_logits(model, context.tokenizer)}, folder / "probe.safetensors")
        with held_back():
            model.save_pretrained(folder / "model", save_compressed=True)
        if after_saving:
            after_saving(folder / "model")
        title = f"{context.model} · {' + '.join((*context.made, strategy.name))}"
        return asdict(replace(facts, calibration=windows.record if windows else None, title=title))

    step = {
        "strategy": strategy.name,
        "settings": {k: v for k, v in strategy.settings.items() if k != "calibration"},
        "calibration": asdict(windows.record) if windows else None,
    }
    key = {
        "kind": "compressed checkpoint",
        "lineage": list(context.lineage),
        **step,
        "dtype": context.dtype,
        "device": context.device.split(":")[0],
    }
    artifact = context.artifacts.get_or_make(key, make)
    context.checkpoint = artifact.path / "model"
    context.lineage = (*context.lineage, artifact.path.name)
    context.intact = Compressed.of(artifact).intact_2_4_share
    context.made[strategy.name] = artifact
    context.expected_probe = artifact.path / "probe.safetensors"
    return artifact


def oneshot(model: PreTrainedModel, recipe: Sequence[Any], context: Context, windows: Windows | None) -> None:
    """Runs llm-compressor's modifiers on `model` in place, over the windows in the order drawn."""
    from llmcompressor import oneshot as run
    from llmcompressor.core import reset_session

    reset_session()
    data: Mapping[str, Any] = {}
    if windows:
        from datasets import Dataset

        length = len(windows.ids[0])
        rows = {"input_ids": [list(w) for w in windows.ids], "attention_mask": [[1] * length for _ in windows.ids]}
        data = {
            "dataset": Dataset.from_dict(rows),
            "num_calibration_samples": len(windows.ids),
            "max_seq_length": length,
            "shuffle_calibration_samples": False,
        }
    with _pinning_needs_a_gpu():
        run(model=model, recipe=list(recipe), processor=cast(Any, context.tokenizer), **data)


def check_library(package: str, name: str, extra: str = "compress") -> None:
    """Raises UserError when a package of an extra is not installed; imports nothing."""
    if find_spec(package) is None:
        raise missing_extra(package, extra, name)


def require_library(name: str) -> None:
    """Imports llm-compressor quietly. Raises UserError when it is not installed."""
    try:
        with held_back():
            import llmcompressor  # noqa: F401
    except ImportError:
        raise missing_extra("llmcompressor", "compress", name) from None
    import logging

    from loguru import logger

    logging.getLogger("torch.fx").setLevel(logging.ERROR)
    logger.disable("llmcompressor")
    logger.disable("compressed_tensors")


@contextlib.contextmanager
def _pinning_needs_a_gpu() -> Iterator[None]:
    """On a machine without a GPU, llm-compressor's AWQ raises while it pins cached activations: skip that there."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if torch.cuda.is_available():
        yield
        return
    original = IntermediatesCache.pin_memory
    IntermediatesCache.pin_memory = lambda self, *args, **kwargs: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        IntermediatesCache.pin_memory = original  # type: ignore[method-assign]


def ignore_list(model: PreTrainedModel) -> list[str]:
    """Names of all linear layers that a quantizer must leave alone: everything outside `linear.linear_layers`."""
    from torch import nn

    chosen = linear.linear_layers(model)
    return [name for name, m in model.named_modules() if isinstance(m, nn.Linear) and name not in chosen]


def check_fraction(strategy: str, key: str, value: float) -> None:
    """Raises UserError unless 0 < value < 1."""
    if not 0.0 < value < 1.0:
        raise UserError(
            f"{strategy}: {key} is a fraction between 0 and 1, got {value}", fix=f"for 50 % write {key}=0.5"
        )


def is_quantized(layer: nn.Module) -> bool:
    """Whether compressed-tensors rounds the layer's weights."""
    return getattr(getattr(layer, "quantization_scheme", None), "weights", None) is not None


def roundings(layers: Mapping[str, nn.Module]) -> dict[str, int]:
    """How weights and inputs are rounded -> number of layers; what was saved and what is read back must agree."""
    return dict(
        Counter(_rounding(cast(Any, layer).quantization_scheme) for layer in layers.values() if is_quantized(layer))
    )


def _rounding(scheme: Any) -> str:
    parts = []
    for args in (scheme.weights, scheme.input_activations):
        size = args and (args.block_structure or args.group_size)
        parts.append(f"{args.type}{args.num_bits} {args.strategy} {size or ''}".strip() if args else "as they are")
    return f"weights {parts[0]}, activations {parts[1]}"


def _head(model: PreTrainedModel) -> Any:
    head = model.get_output_embeddings() or model.get_input_embeddings()
    return cast(Any, head).weight.detach()


def _facts(model: PreTrainedModel) -> Compressed:
    layers = linear.linear_layers(model)
    zeros = linear.sparsity_of({name: matrix.detach() for name, matrix in linear.matrices(model).items()})
    quantized = sorted(name for name, layer in layers.items() if is_quantized(layer))
    return Compressed(
        **asdict(zeros),
        quantized_layers=len(quantized),
        layer_names=quantized,
        layers=len(layers),
        roundings=roundings(layers),
        expert_matrices=len(zeros.sparsity_per_layer) - len(layers),
    )
