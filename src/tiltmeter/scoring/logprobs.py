"""Log-probabilities of chosen ids from logits: the chosen logit minus the row's log-sum-exp, never `log_softmax`.

torch's float32 `log_softmax` on a CPU adds a whole row's exponentials in one running sum, whose rounding grows with the
vocabulary: with 262,144 ids and logits of standard deviation 3 every log-probability comes out 3e-5 nats too high, and
so does every sum of them. `logsumexp` adds in blocks (1e-6, either sign). The reference takes it in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_VALUES = {"cpu": 2**19}  # logits normalized at a time: 2 MiB, which a core's cache holds
MANY_VALUES = 2**27  # elsewhere, where each launch costs more than what it writes


def normalizers(logits: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """log-sum-exp of each row, computed in `dtype`: (n, V) -> (n,). A few rows at a time: temporaries as large as the
    logits cost more in memory than in arithmetic."""
    chunk = max(1, CHUNK_VALUES.get(logits.device.type, MANY_VALUES) // logits.shape[-1])
    return torch.cat([part.to(dtype).logsumexp(-1) for part in logits.split(chunk)])


def logprobs_of(logits: Tensor, ids: Tensor) -> Tensor:
    """The definition: log softmax(logits)[i, ids[i]] of float32 logits (n, V), ids (n,), all of it in float64."""
    return logits.gather(-1, ids[:, None])[:, 0].double() - normalizers(logits, torch.float64)
