"""`--ray ADDRESS`: the same run, its models held and asked by the workers of a Ray cluster.

This process, the driver, keeps the study, the inputs, the batch plan and every file of the run; `pipeline` does not
know who answers. Variants stand side by side, each on a worker of its own. The batches of a cell are its shards: they
go to every worker that holds the variant, and more workers load it where that is sooner than waiting.

Address     ``local``: a cluster on this machine, for this run. ``auto``: the one that runs here or that $RAY_ADDRESS
            names, else a local one. ``HOST:PORT``: a running one that this machine is part of. ``ray://HOST:PORT``:
            through Ray's client, from outside (needs ``ray[client]``). A process that is connected stays so.
Answers     The plan is the cell's, so they are those of one process on the workers' hardware. On a CPU a worker has as
            many threads as torch has here (OMP_NUM_THREADS), because the order of summation depends on them; on a GPU
            it has one GPU. A worker is refused unless it has the driver's versions and calibration text, and the
            weights and probe answers of the worker that loaded the variant first.
Trust       Ray moves Python objects by pickle: whoever can reach a cluster can run code in it. Use one of your own. One
            that was started with a token is joined with RAY_AUTH_MODE=token; Ray reads the token itself.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.distributed.places import places_for
from tiltmeter.errors import UserError, missing_extra
from tiltmeter.models.address import is_address
from tiltmeter.models.formats.gguf.source import is_gguf
from tiltmeter.runs.progress import Progress
from tiltmeter.schema import RunRecord
from tiltmeter.study import Study

if TYPE_CHECKING:
    from tiltmeter.distributed.remote import RemoteLoader

REACH_S = 5.0  # for a connection to the address; Ray itself would try for minutes


def connect(address: str, study: Study, record: RunRecord, record_path: Path, progress: Progress) -> RemoteLoader:
    """A loader whose variants live in the cluster.

    Raises UserError when Ray is absent, the address is no cluster, or the study is answered by another backend.
    """
    elsewhere = any(is_address(spec.source) for spec in study.variants()) or any(map(is_gguf, study.models))
    if study.backend != "transformers" or elsewhere:
        raise UserError(
            "--ray spreads what tiltmeter computes itself, not other backends or served endpoints",
            fix="leave --ray out",
        )
    if ":" in address:  # with its 20 tries Ray takes a quarter of an hour to find that a port is not Ray's
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    try:
        import ray
    except ImportError:
        raise missing_extra("ray", "ray", "--ray") from None
    ours = not ray.is_initialized()
    if ours:
        progress.note(f"connecting to the Ray cluster: {address}")
        _initialize(address, progress.debug)
    disconnect = ray.shutdown if ours else lambda: None
    try:
        places = places_for(study.device, ray.nodes())
        from tiltmeter.distributed.remote import RemoteLoader

        return RemoteLoader(study, record, record_path, progress, places, disconnect)
    except BaseException:
        disconnect()
        raise


def _initialize(address: str, debug: bool) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a run is told to anyone
    options: dict[str, Any] = {"log_to_driver": debug, "logging_level": "INFO" if debug else "ERROR"}
    # A cluster of our own has no page, and nothing that asks a cloud where it is.
    alone: dict[str, Any] = {"include_dashboard": False}
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    if address not in ("auto", "local"):
        _check_reachable(address)
    try:
        try:
            ray.init(address, **(options | alone if address == "local" else options))
        except ConnectionError as error:
            if address != "auto" or "any running Ray instance" not in str(error):
                raise
            ray.init("local", **(options | alone))
    except Exception as error:  # a node that does not start in time is a bare Exception in Ray
        fix = "--ray local; or check that it runs the same Ray, and set RAY_AUTH_MODE=token if it wants a token"
        raise UserError(
            f"the Ray cluster {address} cannot be used: {(str(error).strip() or type(error).__name__).splitlines()[0]}",
            fix='pip install "ray[client]"' if "ray[client]" in str(error) else fix,
        ) from None


def _check_reachable(address: str) -> None:
    found = re.fullmatch(r"(?:ray://)?(\[.+\]|[^:/]+):(\d{1,5})", address)
    if not found:
        raise UserError(
            f"{address!r} is no address of a Ray cluster", fix="--ray local, auto, HOST:PORT or ray://HOST:PORT"
        )
    host, port = found[1].strip("[]"), int(found[2])
    try:
        socket.create_connection((host, port), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}: {getattr(error, 'strerror', None) or error}",
            fix="use the address that `ray start --head` printed, or --ray local for this machine alone",
        ) from None
