"""The catalogue, downloads against a local HTTP server, and what is said about local copies. No network."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tiltmeter.datasets import downloads
from tiltmeter.datasets.catalogue import (
    DATASETS,
    LOCK,
    DataFile,
    Dataset,
    dataset_notes,
    datasets,
    describe,
    verify,
)
from tiltmeter.datasets.downloads import download
from tiltmeter.datasets.fetching import fetch
from tiltmeter.errors import UserError
from tiltmeter.registry import known

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
SHA = hashlib.sha256(CONTENT).hexdigest()
OPINION = "Q{}?,\"defaultdict(<class 'list'>, {{'Peru': [0.5, 0.5]}})\",\"['a', 'b']\"\n"


class Server:
    """Serves `files`; keeps every Range asked for; can break off, answer with errors first, or ignore ranges."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/data": CONTENT}
        self.ranges: list[str | None] = []
        self.break_after: list[int | None] = []  # per request: bytes to send before the line goes dead
        self.first_answers: list[int] = []  # statuses to answer before any file
        self.etag, self.ranges_work = '"v1"', True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str = "/data") -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.ranges.append(asked)
        if self.first_answers or handler.path not in self.files:
            handler.send_error(self.first_answers.pop(0) if self.first_answers else 404)
            return
        content, start = self.files[handler.path], 0
        same = handler.headers.get("If-Range") in (None, self.etag)
        if asked and self.ranges_work and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        limit = self.break_after.pop(0) if self.break_after else None
        handler.wfile.write(content[start:][:limit])
        if limit is not None:
            handler.wfile.flush()
            handler.connection.close()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def get(server: Server, target: Path, sha256: str | None = SHA, progress=lambda done, total: None) -> str:
    return download(server.url(), target, sha256=sha256, progress=progress, pause_sec=0.0)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_put_in_place_with_progress_and_nothing_left_beside_it(server, tmp_path):
    seen: list[tuple[int, int | None]] = []
    assert get(server, tmp_path / "x.bin", progress=lambda done, total: seen.append((done, total))) == SHA
    assert (tmp_path / "x.bin").read_bytes() == CONTENT and leftovers(tmp_path) == ["x.bin"]
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_broken_connection_is_continued_from_where_it_broke(server, tmp_path):
    server.break_after = [30_000, 20_000]
    assert get(server, tmp_path / "x.bin") == SHA
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=30000-", "bytes=50000-"]


def test_a_part_left_by_an_earlier_call_is_continued_by_the_next(server, tmp_path):
    server.break_after = [40_000] + [0] * (downloads.ATTEMPTS - 1)
    with pytest.raises(UserError, match="could not be fetched") as error:
        get(server, tmp_path / "x.bin")
    assert "continues after 40,000 bytes" in error.value.fix and not (tmp_path / "x.bin").exists()
    server.ranges.clear()
    assert get(server, tmp_path / "x.bin") == SHA and server.ranges == ["bytes=40000-"]


def test_a_file_that_changed_meanwhile_starts_anew_instead_of_being_glued(server, tmp_path):
    server.break_after = [40_000] + [0] * (downloads.ATTEMPTS - 1)
    with pytest.raises(UserError):
        get(server, tmp_path / "x.bin", sha256=None)
    server.files["/data"], server.etag = CONTENT[::-1], '"v2"'
    found = get(server, tmp_path / "x.bin", sha256=None)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT[::-1] and found == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_without_a_version_only_a_file_with_a_known_hash_is_continued(server, tmp_path):
    server.etag = ""
    server.break_after = [40_000]
    get(server, tmp_path / "unknown.bin", sha256=None)
    assert server.ranges == [None, None]
    server.ranges.clear()
    server.break_after = [40_000]
    get(server, tmp_path / "known.bin")
    assert server.ranges == [None, "bytes=40000-"]


def test_a_wrong_old_part_is_thrown_away_and_the_file_fetched_whole(server, tmp_path):
    (tmp_path / ".x.bin.part").write_bytes(b"not the beginning of this file")
    server.etag = ""
    assert get(server, tmp_path / "x.bin") == SHA and (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_everything_again(server, tmp_path):
    server.ranges_work, server.break_after = False, [30_000]
    assert get(server, tmp_path / "x.bin") == SHA and (tmp_path / "x.bin").read_bytes() == CONTENT


def test_wrong_content_is_refused_and_never_put_in_place(server, tmp_path):
    with pytest.raises(UserError, match="not the published file") as error:
        get(server, tmp_path / "x.bin", sha256="0" * 64)
    assert leftovers(tmp_path) == [] and str(tmp_path / "x.bin") in error.value.fix


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server, tmp_path):
    server.first_answers = [503, 429]
    assert get(server, tmp_path / "x.bin") == SHA
    server.ranges.clear()
    server.first_answers = [403]
    with pytest.raises(UserError, match="403"):
        get(server, tmp_path / "y.bin")
    assert len(server.ranges) == 1


def test_an_address_nobody_answers_at_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match="could not be fetched"):
        download("http://127.0.0.1:1/x", tmp_path / "x", sha256=None, progress=lambda d, t: None, pause_sec=0.0)


def opinions(rows: int) -> bytes:
    return ("question,selections,options\n" + "".join(OPINION.format(number) for number in range(rows))).encode()


@pytest.fixture
def unlocked(server) -> Dataset:
    """GlobalOpinionQA's entry, three rows long, on the local server: a dataset without a known hash."""
    server.files["/go.csv"] = opinions(3)
    file = DataFile("global_opinion_qa/global_opinions.csv", server.url("/go.csv"), None)
    return replace(DATASETS["global-opinion-qa"], rows=3, files=(file,))


def test_the_first_fetch_locks_the_hash_and_a_later_change_is_refused(server, unlocked, tmp_path):
    fetch(unlocked, tmp_path, lambda done, total: None)
    target = tmp_path / unlocked.files[0].path
    lock = json.loads((tmp_path / LOCK).read_text())
    assert lock[unlocked.files[0].path]["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    asked = len(server.ranges)
    fetch(unlocked, tmp_path, lambda done, total: None)  # there and right: not fetched again
    assert len(server.ranges) == asked
    target.unlink()
    server.files["/go.csv"] = opinions(3).replace(b"Peru", b"Chad")
    with pytest.raises(UserError, match="not the published file"):
        fetch(unlocked, tmp_path, lambda done, total: None)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [(opinions(2), "2 rows, expected 3"), (opinions(3).replace(b"[0.5, 0.5]", b"[0.5]"), "row 1, column 'selections'")],
)
def test_a_first_fetch_of_the_wrong_rows_or_schema_is_neither_kept_nor_locked(server, unlocked, tmp_path, content, why):
    server.files["/go.csv"] = content
    with pytest.raises(UserError, match=why):
        fetch(unlocked, tmp_path, lambda done, total: None)
    assert not (tmp_path / LOCK).exists() and not (tmp_path / unlocked.files[0].path).exists()
    assert not list(tmp_path.glob(".first-fetch-*"))


def test_a_persons_own_file_is_never_overwritten(server, unlocked, tmp_path):
    target = tmp_path / unlocked.files[0].path
    target.parent.mkdir()
    target.write_text("mine")
    with pytest.raises(UserError, match="not the file this would fetch") as error:
        fetch(unlocked, tmp_path, lambda done, total: None)
    assert target.read_text() == "mine" and "--data" in error.value.fix and server.ranges == []


def test_an_unknown_dataset_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match="no dataset called 'abq'"):
        fetch("abq", tmp_path, lambda done, total: None)


def test_every_benchmark_has_an_entry_with_its_files_pinned_address_licence_and_citation():
    assert set(datasets()) == set(known("benchmark"))
    for name, dataset in datasets().items():
        benchmark = known("benchmark")[name]
        assert tuple(file.path for file in dataset.files) == benchmark.files
        assert dataset.licence and dataset.limits and ("arXiv" in dataset.citation or "doi" in dataset.citation)
        for file in dataset.files:
            assert file.url.startswith("https://")
            pinned = file.sha256 or dataset.revision
            assert len(pinned) in (40, 64) and (file.sha256 or dataset.revision in file.url)


def test_verify_says_which_local_files_are_the_published_ones_and_how_the_others_differ(shared):
    findings = {finding.file: finding for finding in verify(shared / "data")}
    assert len(findings) == 7 and not any(finding.broken for finding in findings.values())
    assert {name for name, f in findings.items() if f.state != "ok"} == {
        "discrim_eval/explicit.jsonl",
        "global_opinion_qa/global_opinions.csv",
    }
    assert "rebuilt from templates" in findings["discrim_eval/explicit.jsonl"].message
    assert "1,825 of 2,556 rows" in findings["global_opinion_qa/global_opinions.csv"].message


def test_a_run_is_told_about_differing_data_and_records_the_hashes(shared):
    (note,) = dataset_notes(shared / "data", "global-opinion-qa")
    assert "1,825 of 2,556" in note and "must not stand beside published" in note
    assert dataset_notes(shared / "data", "worldbench") == []
    record = describe("crows-pairs", shared / "data")
    assert record.published is True and record.rows == 1508
    assert record.files == {f.path: f.sha256 for f in DATASETS["crows-pairs"].files}
    json.dumps(record.as_json())


def test_verify_tells_missing_malformed_changed_and_unverified_apart(tmp_path):
    (tmp_path / "crows_pairs").mkdir()
    (tmp_path / "crows_pairs/crows_pairs_anonymized.csv").write_text(",sent_more,sent_less,bias_type\n0,A.,B.,age\n")
    (tmp_path / "dt_stereotyping").mkdir()
    (tmp_path / "dt_stereotyping/user_prompts.csv").write_text("stereotype_topic,target_group,user_prompt\njobs,,P\n")
    (tmp_path / "global_opinion_qa").mkdir()
    (tmp_path / "global_opinion_qa/global_opinions.csv").write_bytes(opinions(2556))
    found = {finding.dataset: finding for finding in verify(tmp_path)}
    states = {name: (finding.state, finding.broken) for name, finding in found.items()}
    assert states == {
        "crows-pairs": ("differs", True),
        "dt-stereotyping": ("malformed", True),
        "global-opinion-qa": ("unverified", False),
        "discrim-eval": ("missing", True),
        "discrim-eval-gen": ("missing", True),
        "worldbench": ("missing", True),
    }
    assert "1 of 1,508 rows" in found["crows-pairs"].message
    assert "column 'target_group'" in found["dt-stereotyping"].message
    assert "tiltmeter data fetch worldbench" in found["worldbench"].message


def test_sets_that_run_only_where_named_are_asked_for_once_they_are_begun(tmp_path):
    assert not {finding.dataset for finding in verify(tmp_path)} & {"bbq", "winobias"}
    (tmp_path / "winogender").mkdir()
    (tmp_path / "winogender/all_sentences.tsv").write_text("sentid\tsentence\n")
    found = {(f.dataset, f.file, f.state) for f in verify(tmp_path) if f.dataset == "winogender"}
    assert ("winogender", "winogender/occupations-stats.tsv", "missing") in found


def test_a_file_published_inside_another_is_unpacked_and_both_hashes_are_checked(server, tmp_path):
    inside = CONTENT[:7] + b"\n"
    file = DataFile(
        "lists/one.jsonl",
        server.url(),
        hashlib.sha256(inside).hexdigest(),
        SHA,
        lambda content: content[:7] + b"\n",
    )
    dataset = replace(DATASETS["crows-pairs"], files=(file,))
    fetch(dataset, tmp_path, lambda done, total: None)
    assert (tmp_path / file.path).read_bytes() == inside
    assert [p.name for p in (tmp_path / "lists").iterdir()] == ["one.jsonl"]
    other = replace(dataset, files=(replace(file, path="lists/two.jsonl", unpack=lambda content: b"else"),))
    with pytest.raises(UserError, match="did not unpack"):
        fetch(other, tmp_path, lambda done, total: None)
    assert not (tmp_path / "lists/two.jsonl").exists()
