"""transformers' code of models, imported without two packages that it takes along wherever they are installed.

hqq brings torch's compiler with it; scikit-learn is for a threshold of assisted decoding that no protocol sets.
Together they were a quarter of the time until a run's first answer (`python -m benchmarks.fixed`). Whoever needs hqq
asks for it.
"""

from __future__ import annotations

import sys
from functools import cache

ASIDE = ("is_hqq_available", "is_sklearn_available")
USERS = ("transformers.utils", "transformers.cache_utils", "transformers.generation.candidate_generator")


def _absent() -> bool:
    return False


@cache
def import_models() -> None:
    """Import what any model needs of transformers, once a process; before that it is only slower, never otherwise."""
    import transformers.utils

    asked = {name: getattr(transformers.utils, name) for name in ASIDE}
    for name in ASIDE:
        setattr(transformers.utils, name, _absent)
    try:
        import transformers.generation.candidate_generator
        import transformers.modeling_utils  # its quantizers, too, look for hqq
    finally:
        for module in filter(None, map(sys.modules.get, USERS)):
            for name in ASIDE:
                if getattr(module, name, None) is _absent:
                    setattr(module, name, asked[name])


def import_hqq() -> None:
    """What transformers' cache by hqq needs. Raises ImportError where hqq is not installed."""
    import transformers.cache_utils
    from hqq.core.quantize import Quantizer

    transformers.cache_utils.HQQQuantizer = Quantizer  # type: ignore[attr-defined]
