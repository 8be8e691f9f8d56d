"""How Ray is started and found: nothing beside what is needed runs, and what does not start is a message."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from tiltmeter.distributed import cluster
from tiltmeter.errors import UserError

ray = pytest.importorskip("ray")
NOBODY = ConnectionError("Could not find any running Ray instance. Please specify the one to connect to")


@pytest.fixture
def started(monkeypatch):
    """What `ray.init` is called with; `started.errors` are raised one after the other."""
    seen = SimpleNamespace(calls=[], errors=[])

    def init(address, **options):
        seen.calls.append((address, options))
        if seen.errors and (error := seen.errors.pop(0)):
            raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(cluster, "_check_reachable", lambda address: None)
    return seen


@pytest.mark.parametrize(("address", "errors"), [("local", []), ("auto", [NOBODY])])
def test_a_cluster_of_our_own_has_no_page_and_tells_nobody(started, address, errors):
    started.errors = list(errors)
    cluster._initialize(address, debug=False)
    where, options = started.calls[-1]
    assert where == "local"
    assert options["include_dashboard"] is False
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "ray://10.0.0.1:10001"])
def test_somebody_elses_cluster_is_joined_as_it_is(started, address):
    cluster._initialize(address, debug=False)
    [(where, options)] = started.calls
    assert where == address
    assert "include_dashboard" not in options  # Ray refuses it where it does not start anything


@pytest.mark.parametrize(
    "error",
    [
        Exception("The current node timed out during startup. This could happen because some of the Ray processes …"),
        RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.40"),
        TimeoutError(),
        ConnectionError("ray client connection timeout"),
        ValueError("Can't find a `node_ip_address.json` file"),
        OSError("No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("address", ["local", "10.0.0.1:6379"])
def test_a_node_that_does_not_start_is_a_message_with_what_to_type(started, address, error):
    started.errors = [error]
    with pytest.raises(UserError) as caught:
        cluster._initialize(address, debug=False)
    assert address in caught.value.message and "\n" not in caught.value.message
    assert (str(error).splitlines() or ["TimeoutError"])[0] in caught.value.message
    assert "--ray local" in caught.value.fix
