"""What each worker asks of a cluster, and how many have room in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiltmeter.errors import UserError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Places:
    """What each worker asks of the cluster, and how many have room in it.

    Attributes:
        device: "cpu" or "cuda".
        threads: torch's, in a worker.
    """

    room: int
    device: str
    cpus: int
    gpus: int
    threads: int


def places_for(device: str, nodes: Sequence[dict[str, Any]]) -> Places:
    """Where a study's workers go.

    Args:
        device: the study's; "auto" is a GPU where the cluster has one.
        nodes: as `ray.nodes()` tells them.
    Raises UserError for a GPU that the cluster does not have, or one named by its number.
    """
    import torch

    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in alive))
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device} with --ray: the cluster chooses", fix="--device auto, cpu or cuda")
    if device == "cuda" and not gpus:
        raise UserError("--device cuda was asked for, but the Ray cluster has no GPU", fix="--device auto")
    if gpus and device != "cpu":
        each = int(min(node.get("CPU", 0) // node["GPU"] for node in alive if node.get("GPU", 0) >= 1))
        return Places(gpus, "cuda", cpus=each, gpus=1, threads=max(1, each))
    cpus = [int(node.get("CPU", 0)) for node in alive]
    threads = max(1, min(torch.get_num_threads(), max(cpus, default=1)))
    return Places(max(1, sum(n // threads for n in cpus)), "cpu", cpus=threads, gpus=0, threads=threads)
