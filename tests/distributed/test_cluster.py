"""A run whose answers come from a Ray cluster is the run of one process: its bytes, its failures, its mistakes."""

import json
import os
import shutil
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from tiltmeter.cli.commands import main
from tiltmeter.distributed.cluster import connect
from tiltmeter.distributed.places import Places, places_for
from tiltmeter.errors import UserError
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.runs.progress import Bar, Progress
from tiltmeter.study import make_study

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    """A cluster of two nodes, each with room for one worker of one thread."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILTMETER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        started.add_node(num_cpus=1)
        yield started
        started.shutdown()


def without_times(folder):
    """The run's results as JSON text, and how they were computed; without measured seconds and the folder's name, which
    the commands that complete a run also say."""
    document = read_results(folder)
    for name in ("path", "started", "command", "command_for_all"):
        document["run"].pop(name)
    document["methods"] = json.loads((folder / "run.json").read_text())["methods"]
    assert document["methods"]
    for row in document["rows"]:
        row.pop("seconds")
    return json.dumps(document, sort_keys=True)


class Watched(Progress):
    """Keeps warnings; calls `after_batch(number)` when a batch has been committed."""

    def __init__(self, after_batch=lambda number: None):
        self.warnings, self.n_batches, self.after_batch = [], 0, after_batch

    def warn(self, text):
        self.warnings.append(text)

    @contextmanager
    def cell(self, cell_id, total, done):
        watched = self

        class Counting(Bar):
            def advance(self, n, stats):
                watched.n_batches += 1
                watched.after_batch(watched.n_batches)

        yield Counting()


def workers_of(started):
    """The processes of tiltmeter's workers in this cluster."""
    raylets = [node.all_processes["raylet"][0].process.pid for node in started.list_all_nodes()]
    found = [child for pid in raylets for child in psutil.Process(pid).children(recursive=True)]
    return [process for process in found if process.cmdline() and process.cmdline()[0].startswith("ray::Worker")]


ROUNDING = "dtype:bfloat16"  # its answers depend on batch composition, and the run says so
FAILING = "dtype:float32"  # changes nothing on a CPU


@pytest.fixture(scope="module")
def runs(shared, two_nodes, tmp_path_factory):
    """One study twice: "alone" in this process, "together" by two workers, one of them killed after the first batch."""
    folder = tmp_path_factory.mktemp("runs")
    text = folder / "text.txt"
    text.write_text("Once upon a time there was a little dog.\nHe liked to run in the park all day.\n")
    study = make_study(
        models=[str(shared / "models" / "stories260k")],
        strategies=[ROUNDING, FAILING],
        benchmarks=["crows-pairs", "worldbench"],
        limits={"crows-pairs": 60, "worldbench": 8},
        data=str(shared / "data"),
        batch_tokens=128,
        text=str(text),
        draws=200,
        fidelity=False,  # no worker keeps the logits of a base: measured by one process only
    )

    def kill(number):
        if number == 1:
            workers = workers_of(two_nodes)  # the one that is idle has just answered and will be asked again
            for process in [one for one in workers if one.cmdline()[0] == "ray::Worker"] or workers:
                process.kill()

    found = {"study": study}

    def released(loader):
        found["held"] = {spec: (variant, loader.identity(spec.source)) for spec, (variant, _) in loader._loaded.items()}
        release(loader)

    from tiltmeter.distributed.remote import RemoteLoader

    release = RemoteLoader.release
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RemoteLoader, "release", released)
        for name, watched, address in (("alone", Watched(), None), ("together", Watched(kill), two_nodes.address)):
            found[name] = run(study, folder / name, watched, ray=address), watched
    return found


def test_two_workers_give_the_bytes_of_one_process_though_one_is_killed_in_the_middle(runs):
    (alone, by_one), (together, by_two) = runs["alone"], runs["together"]
    assert any("a worker died" in text for text in by_two.warnings)
    assert by_two.n_batches == by_one.n_batches > 8
    assert without_times(together.path) == without_times(alone.path)
    assert "depend on batch composition" in without_times(alone.path)
    quality = [variant["text_quality"] for variant in read_results(together.path)["variants"]]
    judged = [answers for block in quality for answers in block["answers"].values()]
    assert len(quality) == len(judged) == 2 and all(block["perplexity"] for block in quality)
    assert all(answers["n"] and answers["base_logprob"] < 0 for answers in judged)


def test_the_driver_holds_one_tokenizer_for_all_variants_of_a_model_and_no_model(runs):
    held = list(runs["held"].values())
    assert len(held) == 2 and all(variant.tokenizer is identity.tokenizer for variant, identity in held)
    assert {id(identity) for _, identity in held} == {id(held[0][1])} and not any(variant.model for variant, _ in held)


def test_a_variant_that_fails_on_its_worker_is_named_and_the_others_are_computed(runs):
    summary, _ = runs["together"]
    (failure,) = summary.failures
    assert failure.strategy == FAILING and "already" in failure.reason
    assert (summary.computed, summary.reused) == (4, 0)


def test_a_run_begun_on_a_cluster_is_finished_by_one_process(runs, tmp_path):
    shutil.copytree(runs["together"][0].path, tmp_path / "together")
    halved = 0
    for answers in tmp_path.glob("together/cells/*/answers.jsonl"):  # as a kill of the driver leaves it
        text = answers.read_text()
        answers.write_text(text[: len(text) // 2])
        (answers.parent / "done.json").unlink()
        halved += 1
    assert run(runs["study"], tmp_path / "together").computed == halved == 4
    assert without_times(tmp_path / "together") == without_times(runs["alone"][0].path)


@pytest.fixture
def pool(two_nodes):
    """Two workers without a model, who say which process they are; nothing heavy is imported to start them."""
    from tiltmeter.distributed.worker_pool import Pool, Unfit

    class Light:
        def about(self):
            return SimpleNamespace(host="here")

        def do(self, what, only=None):
            if what == "die":
                os._exit(1)
            if what == "too much":
                raise MemoryError("no room")
            if only not in (None, os.getpid()):
                raise Unfit("came out otherwise")
            return os.getpid(), what

    ray.init(address=two_nodes.address, log_to_driver=False, logging_level="ERROR")
    made = Pool(lambda: ray.remote(num_cpus=1)(Light).remote(), 2, lambda about: None, Watched())
    yield made
    made.close()
    ray.shutdown()


def test_a_request_of_which_three_workers_die_is_given_up_and_the_others_are_answered(pool):
    found = dict(pool.spread("a", deque(["die", "live"]), lambda actor, what: actor.do.remote(what)))
    assert "3 workers died of it" in str(found["die"]) and found["live"][1] == "live"


def test_what_is_raised_inside_a_worker_comes_back_as_it_was_so_that_the_driver_can_halve_the_batch(pool):
    from tiltmeter.scoring.engine import is_out_of_memory

    queue, sizes = deque([["too much", "to", "do", "here"]]), []
    for batch, found in pool.spread("a", queue, lambda actor, b: actor.do.remote(b[0] if len(b) > 2 else "ok")):
        if isinstance(found, Exception):
            assert is_out_of_memory(found)
            queue.extendleft([batch[2:], batch[:2]])  # as `pipeline` does
        else:
            sizes.append(len(batch))
    assert sizes == [2, 2]


def test_each_variant_at_work_has_a_worker_that_nobody_makes_load_another(pool):
    pids = {"a": set(), "b": set()}
    together = threading.Barrier(2, timeout=100)  # or the one would wait for ever when the other failed

    def work(spec):
        with pool.active(spec):
            pids[spec].add(pool.call(spec, lambda actor: actor.do.remote(spec))[0])
            together.wait()
            queue = deque(range(20))
            for _, (pid, _) in pool.spread(
                spec, queue, lambda actor, what: actor.do.remote(what), lambda waiting, at_work: True
            ):
                pids[spec].add(pid)
            together.wait()

    threads = [threading.Thread(target=work, args=(spec,)) for spec in pids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids["a"]) == len(pids["b"]) == 1 and pids["a"] != pids["b"]


def test_a_worker_that_holds_another_variant_than_the_first_is_asked_no_more(pool):
    first, _ = pool.call("a", lambda actor: actor.do.remote("hello"))
    queue, pids = deque(range(2)), set()
    found = pool.spread(
        "a", queue, lambda actor, what: actor.do.remote(what, only=first), lambda waiting, at_work: True
    )
    for what, (pid, _) in found:
        pids.add(pid)
        if pool.room == 2:  # the second worker is not there yet, or was not asked
            queue.append(what + 2)
            time.sleep(0.01)
    assert pids == {first} and pool.room == 1


def test_a_worker_with_other_versions_is_refused_by_name_but_not_for_a_cpu_build():
    from tiltmeter.distributed.remote import About, RemoteLoader

    loader = RemoteLoader.__new__(RemoteLoader)
    loader.study = make_study(models=["m"])
    loader._versions, loader._calibration = {"torch": "2.13.0"}, None
    loader._hardware, loader.record, loader.record_path = [KIND], {}, None
    same = About("node2", {"torch": "2.13.0+cpu"}, KIND, None)
    loader._accept(same)
    for change, message in (
        ({"versions": {"torch": "2.12.0"}}, r"node2 than here: torch 2\.12\.0 instead of 2\.13\.0"),
        ({"calibration": "another"}, "calibration text"),
    ):
        with pytest.raises(UserError, match=message):
            loader._accept(replace(same, **change))


KIND = {"machine": "x86_64", "cpu": "a", "threads": 1, "gpus": []}


def node(**resources):
    return {"Alive": True, "Resources": resources}


def test_a_worker_takes_a_gpu_where_there_is_one_and_else_as_many_cpus_as_torch_has_threads(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    mixed = [node(CPU=16.0, GPU=2.0), node(CPU=6.0), {"Alive": False, "Resources": {"CPU": 64.0}}]
    assert places_for("auto", mixed) == Places(room=2, device="cuda", cpus=8, gpus=1, threads=8)
    assert places_for("cpu", mixed) == Places(room=5, device="cpu", cpus=4, gpus=0, threads=4)  # 16 // 4 + 6 // 4
    assert places_for("auto", [node(CPU=2.0), node(CPU=3.0)]) == Places(1, "cpu", cpus=3, gpus=0, threads=3)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match="--device"):
            places_for(device, [node(CPU=2.0)])


@pytest.mark.parametrize(
    ("address", "message", "fix"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1", "--ray local"),
        ("ray://127.0.0.1:1", "no Ray cluster answers at ray://127.0.0.1:1", "ray start --head"),
        ("somewhere", "'somewhere' is no address", "HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_ends_with_status_2_and_what_to_type(
    shared, tmp_path, capsys, address, message, fix
):
    status, error = command(shared, tmp_path, capsys, address)
    assert status == 2 and message in error and fix in error and "Traceback" not in error


def test_a_served_endpoint_is_not_asked_from_a_cluster(tmp_path):
    study = make_study(models=["http://localhost:1/v1"])
    with pytest.raises(UserError, match="leave --ray out"):
        connect("local", study, {}, tmp_path / "run.json", Progress())


def test_without_the_library_the_error_names_the_extra(shared, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    status, error = command(shared, tmp_path, capsys, "local")
    assert status == 2 and 'pip install "tiltmeter[ray]"' in error


def command(shared, tmp_path, capsys, address):
    """(exit status, stderr) of a run that is asked to use the cluster at `address`."""
    model, data = str(shared / "models" / "stories260k"), str(shared / "data")
    with pytest.raises(SystemExit) as stop:
        main(["run", model, "-b", "crows-pairs", "--data", data, "--out", str(tmp_path / "run"), "--ray", address])
    return stop.value.code, capsys.readouterr().err
