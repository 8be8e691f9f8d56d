"""What a device asks of whoever computes on it: settings before the first forward, and what its errors mean."""

from __future__ import annotations

import ctypes
import gc
import os
import traceback

import torch

from tiltmeter.errors import UserError

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # its handle needs memory too
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",  # what cuDNN calls a workspace it could not get
)
STICKY = ("CUDA error", "device-side assert", "illegal memory access", "HIP error")
CAPTURE = "TILTMETER_CAPTURE"  # 0: no decoding step is captured
STRICT = "TILTMETER_STRICT"  # 1: whatever would make the engine fall back to a slower way is raised instead


def prepare(device: str) -> None:
    """Settings for forwards on `device`: engine and reference must run the same kernels.

    cuDNN, torch's first choice for attention on recent GPUs, builds a plan for every new shape (0.1 to 0.5 s), and
    trees have a new shape in nearly every piece. TF32 would round float32 products to 10 bits.
    """
    if device.partition(":")[0] == "cuda":  # no torch device where nothing is computed here: "served"
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def strict() -> bool:
    """Whether fallbacks are errors: for runs on a card that is lent by the minute, and for checks."""
    return os.environ.get(STRICT) == "1"


def captures() -> bool:
    """Whether decoding steps may be captured."""
    return os.environ.get(CAPTURE) != "0"


def is_out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch says that memory ran out: halve the batch and go on."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def is_lost(error: BaseException) -> bool:
    """True for errors after which a GPU refuses all further work of this process: nothing may be tried again."""
    if is_out_of_memory(error):
        return False
    kinds = tuple(kind for kind in (getattr(torch, "AcceleratorError", None),) if kind)
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and any(w in str(error) for w in STICKY))


def refuses_capture(error: BaseException) -> bool:
    """True for CUDA's answers to work that a graph cannot hold; the device is well, though the message begins like that
    of a lost one."""
    return isinstance(error, RuntimeError) and "captur" in str(error).lower()


def lost(error: BaseException) -> UserError:
    """The end of a run on a lost device."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"the GPU stopped working for this process: {line[:200]}",
        fix="start the same command again: what is finished is kept; if it comes again, lower --batch-tokens or use "
        "another card",
    )


def give_back(device: str) -> None:
    """After a batch: what is free inside the process goes back to the machine (CPU, glibc; elsewhere nothing to do).

    Buffers of up to 32 MiB come from a heap that only shrinks at its end, so one small tensor that stays above them
    keeps gigabytes resident: 6 GB were seen for a model of 135M parameters after eight cells of a run.
    """
    if device.partition(":")[0] == "cpu":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
        if trim is not None:
            trim(0)


def without_frames(error: Exception) -> Exception:
    """The same error, holding nothing that was computed when it was raised, with that memory given back.

    A traceback keeps the frames of the batch that failed, and they its logits, masks, keys and values: gigabytes, just
    when memory is short and halves of the batch are about to be tried.
    """
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = error.__context__ = error.__cause__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return error
