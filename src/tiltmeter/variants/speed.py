"""What an acceleration really buys here: memory, prefill and decode speed, base and variant in alternation.

Prefill     tokens/s of one forward over `batch` prompts of `prompt_tokens` random tokens (no text repeats itself).
Decode      tokens/s while `new_tokens` further tokens follow, one per forward, through the variant's own cache.
Rounds      one warm-up, then `repeats` rounds, in each the base first and the variant right after it: a machine
            that slows down slows both. Median, smallest and largest; the speed-up is the median of the rounds' ratios.
Memory      weights as they lie in memory; checkpoint on disk; peak above what the process held before loading, in a
            process of its own on a CPU (its loading included), from the allocator's own counters on a GPU.
Honesty     A strategy that is only simulated here (compressed-tensors weights that run dense, zeros in dense
            matrices, rounded values in a float cache) gets a label in place of every number that is not its own.
            On a GPU in 16 bit, 2:4 weights are handed to torch's semi-structured kernels and measured there (not run
            on this project's machines, which have none); FP8 and INT4 checkpoints run dense in transformers there too.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, as_json
from tiltmeter.models import reading
from tiltmeter.models.linear import linear_layers
from tiltmeter.models.random_weights import from_shape
from tiltmeter.schema.place import NONE, is_base
from tiltmeter.seeds import seed_for
from tiltmeter.strategies.base import SIMULATED
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class Timing:
    """median, smallest and largest of a quantity over the rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Setting:
    """batch sequences, tokens per prompt, tokens generated, timed rounds; device, dtype and threads as they ran."""

    batch: int = 4
    prompt_tokens: int = 256
    new_tokens: int = 64
    repeats: int = 5
    device: str = ""
    dtype: str = ""
    threads: int = 0

    def __post_init__(self) -> None:
        for key in ("batch", "prompt_tokens", "new_tokens", "repeats"):
            if getattr(self, key) < 1:
                raise UserError(f"speed: {key} is at least 1, got {getattr(self, key)}", fix=f"leave {key} out")


@dataclass(frozen=True)
class Speed:
    """What was measured of one variant.

    Attributes:
        prefill, decode: tokens per second; None where a number would mislead (`note` says why).
        prefill_speedup, decode_speedup: ratio to the base of the same round; None for the base itself too.
        memory_bytes: weights in memory (quantization constants included); None where simulated.
        disk_bytes: the checkpoint that was loaded; None where it lies elsewhere.
        peak_bytes: see the module; None where it was not measured or is simulated.
        note: "" or why numbers are missing.
        first_token: seconds from one prompt to the token after it; None where it was not timed.
    """

    strategy: str
    setting: Setting
    prefill: Timing | None
    decode: Timing | None
    prefill_speedup: Timing | None
    decode_speedup: Timing | None
    memory_bytes: int | None
    disk_bytes: int | None
    peak_bytes: int | None
    note: Text = ""
    proof: str = ""
    first_token: Timing | None = None

    def as_json(self) -> dict[str, object]:
        """The `speed` block of a variant: medians under plain names, everything else beside them."""
        return {
            "prefill_tokens_per_s": self.prefill.median if self.prefill else None,
            "decode_tokens_per_s": self.decode.median if self.decode else None,
            **asdict(self),
            "note": as_json(self.note),
        }


@dataclass
class _Rounds:
    """Seconds of each round, base and variant paired."""

    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)


def measure(
    model: str,
    strategies: Sequence[str],
    *,
    setting: Setting | None = None,
    device: str = "auto",
    dtype: str = "auto",
    calibration: str | None = None,
    seed: int = 0,
    peak: bool = True,
    progress: Callable[[str], None] | None = None,
) -> list[Speed]:
    """The base first, then each strategy, measured against the base in alternation.

    Args:
        model: hub id, folder, or a config.json (a model of that shape with random weights is made).
        peak: also measure peak memory (on a CPU this starts one process per variant).
    Raises: UserError as `apply.load` does, and where prompt and new tokens do not fit the context.
    """
    import torch

    say = progress or (lambda line: None)
    chains = [parse(text) for text in dict.fromkeys((NONE, *strategies))]
    source = from_shape(model) if model.endswith(".json") else model
    options: Mapping[str, Any] = {"device": device, "dtype": dtype, "calibration": calibration, "seed": seed}
    say(f"loading {source}")
    base = apply.load(source, chains[0], progress=say, **options)
    setting = Setting(
        **{
            **asdict(setting or Setting()),
            "device": base.device,
            "dtype": base.dtype,
            "threads": torch.get_num_threads(),
        }
    )
    if setting.prompt_tokens + setting.new_tokens > base.max_length:
        asked = setting.prompt_tokens + setting.new_tokens
        raise UserError(
            f"{asked} tokens do not fit the context of {base.max_length}",
            fix="ask for fewer with --prompt-tokens or --new-tokens",
        )
    vocabulary = base.model.config.get_text_config(decoder=True).vocab_size
    found = []
    for chain in chains:
        say(f"measuring {chain.canonical}")
        variant = base if not chain.parts else apply.load(source, chain, progress=say, **options)
        label = "" if chain.speed_is_real is True or _use_sparse_kernels(variant) else chain.speed_is_real
        if base.converted:  # an AWQ or GPTQ checkpoint runs dense here
            label = SIMULATED
        timed = None if label else _time(base, variant, _tokens(setting, vocabulary, seed, base.device), setting)
        highest = _peak(source, chain.canonical, setting, vocabulary, options) if peak and not label else None
        found.append(_summary(chain.canonical, variant, setting, timed, highest, label))
        if variant is not base:
            reading.release(variant)
    reading.release(base)
    return found


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights and buffers as they lie in memory: shared storage once, quantization constants included."""
    import torch

    tensors: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if callable(weight):  # torch's dynamic int8 layers pack their weight out of sight
            tensors.append(weight())
        state = getattr(weight, "quant_state", None)  # bitsandbytes 4 bit
        while state is not None:
            tensors.append(state.absmax)
            state = getattr(state, "state2", None)
        scales = (getattr(weight, "SCB", None), getattr(getattr(module, "state", None), "SCB", None))
        tensors += [each for each in scales if isinstance(each, torch.Tensor)]  # bitsandbytes 8 bit
    sizes = {}
    for tensor in (part for each in tensors for part in _held_in(each)):
        key = id(tensor) if tensor.is_quantized else (tensor.untyped_storage().data_ptr(), str(tensor.device))
        sizes[key] = tensor.nelement() * tensor.element_size()
    return sum(sizes.values())


def _held_in(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that hold its numbers: itself, or those inside of one that is a wrapper (torchao's)."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return [tensor]
    inner = (getattr(tensor, name) for name in flatten()[0])
    return [part for each in inner if each is not None for part in _held_in(each)]


def _use_sparse_kernels(variant: LoadedVariant) -> bool:
    """On a GPU in 16 bit, puts 2:4 weights into torch's semi-structured format; True when all of them went."""
    import torch

    steps = variant.proof["steps"]
    two_four = len(steps) == 1 and next(iter(steps)).endswith("2:4")
    if not two_four or not variant.device.startswith("cuda") or variant.dtype not in ("float16", "bfloat16"):
        return False
    layers = linear_layers(variant.model)
    if any(layer.in_features % 64 or layer.out_features % 64 for layer in layers.values()):
        return False
    for layer in layers.values():
        sparse = torch.sparse.to_sparse_semi_structured(layer.weight.data)
        layer.weight = torch.nn.Parameter(sparse, requires_grad=False)
    return True


def _tokens(setting: Setting, vocabulary: int, seed: int, device: str) -> torch.Tensor:
    """Random ids, (batch, prompt_tokens + new_tokens)."""
    import torch

    generator = torch.Generator().manual_seed(seed_for(seed, "speed"))
    shape = (setting.batch, setting.prompt_tokens + setting.new_tokens)
    return torch.randint(0, vocabulary, shape, generator=generator).to(device)


def _pass(variant: LoadedVariant, ids: torch.Tensor, prompt_tokens: int) -> tuple[float, float]:
    """Seconds of one prefill and of the decoding after it."""
    import torch
    from transformers import DynamicCache

    def now() -> float:
        if ids.is_cuda:
            torch.cuda.synchronize(ids.device)
        return time.perf_counter()

    with torch.inference_mode():
        cache = variant.new_cache() if variant.new_cache else DynamicCache(config=variant.model.config)
        started = now()
        variant.model(ids[:, :prompt_tokens], past_key_values=cache, use_cache=True, logits_to_keep=1)
        prefilled = now()
        for token in ids[:, prompt_tokens:].split(1, dim=1):
            variant.model(token, past_key_values=cache, use_cache=True)
        return prefilled - started, now() - prefilled


def _time(base: LoadedVariant, variant: LoadedVariant, ids: torch.Tensor, setting: Setting) -> tuple[_Rounds, _Rounds]:
    """Rounds of base and variant, in alternation; one unmeasured round of each before."""
    rounds = (_Rounds(), _Rounds())
    for number in range(setting.repeats + 1):
        for record, each in zip(rounds, (base, variant)):
            prefill, decode = _pass(each, ids, setting.prompt_tokens)
            if number:
                record.prefill.append(prefill)
                record.decode.append(decode)
    return rounds


def _summary(
    strategy: str,
    variant: LoadedVariant,
    setting: Setting,
    timed: tuple[_Rounds, _Rounds] | None,
    peak: int | None,
    label: Text,
) -> Speed:
    disk = int(variant.proof["checkpoint_bytes"])
    proof = str(variant.proof["summary"])
    if timed is None:
        return Speed(strategy, setting, None, None, None, None, None, disk, None, label, proof)
    base, mine = timed
    prompt, new = setting.batch * setting.prompt_tokens, setting.batch * setting.new_tokens
    base_itself = is_base(strategy)
    return Speed(
        strategy,
        setting,
        timing([prompt / seconds for seconds in mine.prefill]),
        timing([new / seconds for seconds in mine.decode]),
        None if base_itself else timing([b / m for b, m in zip(base.prefill, mine.prefill)]),
        None if base_itself else timing([b / m for b, m in zip(base.decode, mine.decode)]),
        weight_bytes(variant.model),
        disk,
        peak,
        "",
        proof,
    )


def timing(values: Sequence[float]) -> Timing:
    return Timing(statistics.median(values), min(values), max(values))


def _peak(source: str, strategy: str, setting: Setting, vocabulary: int, options: Mapping[str, Any]) -> int | None:
    """Peak bytes above what a process held before loading; None when its own process failed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:  # a process of its own: memory that others freed would hide the peak
        try:
            return pool.submit(_peak_here, source, strategy, setting, vocabulary, options).result()
        except Exception:  # the speed stands without it; None is shown as not measured
            return None


def _peak_here(source: str, strategy: str, setting: Setting, vocabulary: int, options: Mapping[str, Any]) -> int:
    import torch

    torch.set_num_threads(setting.threads)
    chain = parse(strategy)
    reading.release(apply.load(source, chain, **options))  # imports and caches are not the variant's memory
    ids = _tokens(setting, vocabulary, 0, setting.device)
    if setting.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        _pass(apply.load(source, chain, **options), ids, setting.prompt_tokens)
        return int(torch.cuda.max_memory_allocated())
    ctypes.CDLL(None).malloc_trim(0)  # give what was freed back, or it would hide the next loading
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
    before = _memory("VmRSS")
    _pass(apply.load(source, chain, **options), ids, setting.prompt_tokens)
    return _memory("VmHWM") - before


def _memory(line: str) -> int:
    """Bytes from this process's /proc status: VmRSS resident now, VmHWM the high-water mark."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(row for row in status.splitlines() if row.startswith(line)).split()[1])
