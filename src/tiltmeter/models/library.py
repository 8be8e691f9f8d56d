"""transformers' code of models, imported without three packages that it takes along wherever they are installed.

hqq brings torch's compiler with it; scikit-learn is for a threshold of assisted decoding that no protocol sets; scipy
matches boxes in losses of object detection. Together they take nearly half of that import's time
(`python -m benchmarks.fixed`). Whoever needs hqq asks for it; who matches boxes gets scipy then.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from tiltmeter.models.quiet import held_back

ASIDE = ("is_hqq_available", "is_scipy_available", "is_sklearn_available")
LOSSES = tuple(
    f"transformers.loss.{name}" for name in ("loss_deformable_detr", "loss_for_object_detection", "loss_grounding_dino")
)
USERS = ("transformers.utils", "transformers.cache_utils", "transformers.generation.candidate_generator", *LOSSES)


def _absent() -> bool:
    return False


def _matched(*args: Any, **settings: Any) -> Any:
    """scipy's, imported when it is called."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(*args, **settings)


@cache
def import_models() -> None:
    """Import what any model needs of transformers, once a process; before that it is only slower, never otherwise."""
    import transformers.utils

    asked = {name: getattr(transformers.utils, name) for name in ASIDE}
    for name in ASIDE:
        setattr(transformers.utils, name, _absent)
    try:
        with held_back():  # it takes torchao along where there is one, which reports GPU libraries that a CPU lacks
            import transformers.generation.candidate_generator
            import transformers.modeling_utils  # its quantizers, too, look for hqq
    finally:
        for module in filter(None, map(sys.modules.get, USERS)):
            for name in ASIDE:
                if getattr(module, name, None) is _absent:
                    setattr(module, name, asked[name])
            if module.__name__ in LOSSES and "linear_sum_assignment" not in module.__dict__:
                module.__dict__["linear_sum_assignment"] = _matched


def import_hqq() -> None:
    """What transformers' cache by hqq needs. Raises ImportError where hqq is not installed."""
    import transformers.cache_utils
    from hqq.core.quantize import Quantizer

    transformers.cache_utils.HQQQuantizer = Quantizer  # type: ignore[attr-defined]
