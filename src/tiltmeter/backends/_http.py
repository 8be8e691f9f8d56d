"""HTTP to a server of which nothing is known: what it sends is bounded in size, depth and time, and read strictly.

size        BODY_BYTES after decompression, so that a small packed answer cannot become a large one
time        a connection within CONNECT_S, the whole answer within the seconds that are given; while nothing comes,
            a word every WORD_EVERY_S; a server that hangs is not asked again, one that is busy or down is, with pauses
place       redirects are not followed: prompts and key go where the user said, and nowhere else
content     JSON of finite numbers; deep nesting, NaN, Infinity and lone surrogates end at this door
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
from tenacity import RetryCallState, retry, retry_if_exception, wait_exponential
from yarl import URL

from tiltmeter.backends.base import BackendFailed
from tiltmeter.printed import one_line

KEY = "OPENAI_API_KEY"
BODY_BYTES = 64 * 2**20
CONNECT_S = 5.0
LISTED_S = 15.0  # for the list of served models
WORD_EVERY_S = 10.0
LONGEST_PAUSE_S = 600.0  # also where a server asks for a longer one
PATIENCE = 8  # attempts at a server that asks to be left alone for a while, which is no failure of its own
BUSY = (408, 409, 425, 429)  # worth another attempt, like everything from 500 on
REFUSALS = (400, 413, 422)  # statuses that concern one request, or one parameter
SAID = 200  # characters of a server's message that are repeated

T = TypeVar("T")
Session = aiohttp.ClientSession
Ask = Callable[[Session], Awaitable[T]]


class HttpStatus(BackendFailed):
    """The server answered with an error status; `pause` is how many seconds it asks to be left alone."""

    def __init__(self, status: int, message: str, pause: float = 0.0) -> None:
        super().__init__(f"status {status}: {message}" if message else f"status {status}")
        self.status, self.message, self.pause = status, message, pause


class Unreachable(BackendFailed):
    """Nobody answers there."""


class Hung(Unreachable):
    """Somebody is there and does not answer."""


class Nonsense(BackendFailed):
    """The server answered, and what it said cannot be believed."""


def together(asks: Sequence[Ask[T]], at_once: int = 1, waiting: Callable[[str], None] | None = None) -> list[T]:
    """What each of `asks` gives, in order, `at_once` at a time.

    After a failure nothing more is sent, and what is on its way is dropped. `waiting` gets a line whenever
    WORD_EVERY_S passed without an answer. An interrupt ends it at once.
    """

    async def all_of_them() -> list[T]:
        gate = asyncio.Semaphore(at_once)
        async with _session() as session:

            async def one(ask: Ask[T]) -> T:
                async with gate:
                    return await ask(session)

            tasks = [asyncio.ensure_future(one(ask)) for ask in asks]
            try:
                await _watched(tasks, waiting)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            return [task.result() for task in tasks]

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(all_of_them())
    with ThreadPoolExecutor(1) as thread:  # a notebook's own loop is running in this one
        return thread.submit(asyncio.run, all_of_them()).result()  # type: ignore[arg-type]


async def _watched(tasks: Sequence[asyncio.Task[Any]], waiting: Callable[[str], None] | None) -> None:
    """Until all are done. Raises the first failure, in the tasks' order."""
    open_tasks, last = set(tasks), time.monotonic()
    while open_tasks:
        done, open_tasks = await asyncio.wait(open_tasks, timeout=WORD_EVERY_S, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done:
                task.result()
        if done:
            last = time.monotonic()
        elif waiting:
            waiting(f"no answer for {time.monotonic() - last:.0f} s, {len(open_tasks):,} still open")


def _session() -> Session:
    return Session(
        auto_decompress=False,
        trust_env=True,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        headers={"Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def key_header() -> dict[str, str]:
    key = os.environ.get(KEY, "").strip()
    return {"Authorization": f"Bearer {key}"} if key else {}


def redacted(text: object) -> str:
    """What a server or library said: one line, shortened, without the key, harmless on a terminal."""
    key = os.environ.get(KEY, "").strip()
    said = str(text)[: 10 * SAID]
    return one_line(said.replace(key, "***") if key else said)[:SAID]


async def get(session: Session, url: str, seconds: float, attempts: int = 1) -> Any:
    """The JSON of a page. Raises as `post` does."""
    return await _patient(session, "GET", url, None, seconds, attempts)


async def post(session: Session, url: str, body: dict[str, object], seconds: float, attempts: int) -> Any:
    """The JSON that a server answers with. Raises HttpStatus, Unreachable or Nonsense, all BackendFailed."""
    return await _patient(session, "POST", url, body, seconds, attempts)


async def _patient(session: Session, method: str, url: str, body: Any, seconds: float, attempts: int) -> Any:
    def enough(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return state.attempt_number >= (max(attempts, PATIENCE) if _asks_to_wait(error) else attempts)

    again = retry(stop=enough, wait=_pause, retry=retry_if_exception(_worth_another), reraise=True, sleep=_sleep)
    return await again(_once)(session, method, url, body, seconds)


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _asks_to_wait(error: BaseException | None) -> bool:
    return isinstance(error, HttpStatus) and (error.status == 429 or error.pause > 0)


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: as long as the server asks for; else 1, 1, 2, 4 … 10 (a limit of rates: 60)."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.pause if isinstance(error, HttpStatus) else 0.0
    longest = 60 if _asks_to_wait(error) else 10
    return min(max(asked, wait_exponential(multiplier=0.5, min=1, max=longest)(state)), LONGEST_PAUSE_S)


def _worth_another(error: BaseException) -> bool:
    if isinstance(error, HttpStatus):
        return error.status >= 500 or error.status in BUSY
    return isinstance(error, Unreachable) and not isinstance(error, Hung)


async def _once(session: Session, method: str, url: str, body: Any, seconds: float) -> Any:
    where = url.rpartition("/")[0]
    try:
        async with (
            asyncio.timeout(seconds),
            session.request(method, URL(url), json=body, headers=key_header(), allow_redirects=False) as response,
        ):
            if 300 <= response.status < 400:
                raise Nonsense(
                    f"{where} redirects to {redacted(response.headers.get('Location', 'nowhere'))}: not followed, "
                    "prompts go to the address that was named and nowhere else"
                )
            content = await _body(response, where)
            pause = _seconds(response.headers.get("Retry-After"), response.headers.get("Date"))
            status = response.status
    except TimeoutError:
        raise Hung(f"{where} gives no answer within {seconds:.0f} s") from None
    except aiohttp.ClientResponseError:
        raise Nonsense(f"{where} answered with something else than HTTP") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unreachable(f"{where} cannot be reached: {type(error).__name__}") from None
    if status >= 400:
        raise HttpStatus(status, _message(content), pause)
    return parsed(content, where)


async def _body(response: aiohttp.ClientResponse, where: str) -> bytes:
    """The unpacked body. Raises Nonsense beyond BODY_BYTES, or where it is packed in a way that was not asked for."""
    packed = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packed not in ("identity", "", "gzip", "deflate"):
        raise Nonsense(f"{where} packs its answers in a way that was not asked for ({redacted(packed)})")
    unpack = zlib.decompressobj(wbits=47) if packed in ("gzip", "deflate") else None
    body = bytearray()
    async for chunk in response.content.iter_any():
        try:
            body += unpack.decompress(chunk, BODY_BYTES + 1 - len(body)) if unpack else chunk
        except zlib.error:
            raise Nonsense(f"{where} answered with a damaged {packed} stream") from None
        if len(body) > BODY_BYTES:
            raise Nonsense(f"{where} answered with more than {BODY_BYTES // 2**20} MiB")
    return bytes(body)


def parsed(content: bytes, where: str) -> Any:
    """The JSON of a body. Raises Nonsense for what is none, or holds numbers that are none."""
    try:
        return json.loads(content.decode("utf-8", "replace"), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else redacted(error)
        raise Nonsense(f"{where} answered with something else than JSON ({why})") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond every floating-point number")
    return value


def _seconds(asked: str | None, now: str | None) -> float:
    """What Retry-After says: seconds, or a date, which is taken from the answer's own Date (RFC 9110, 10.2.3)."""
    try:
        value = float(asked or 0)
    except ValueError:
        try:
            value = (parsedate_to_datetime(asked or "") - parsedate_to_datetime(now or "")).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return value if 0 <= value < math.inf else 0.0


def _message(content: bytes) -> str:
    """The error text of an OpenAI-style body, or the body's first line."""
    text = content[: 64 * 1024].decode("utf-8", "replace")
    try:
        body = json.loads(text)
        error = body.get("error", body)
        return redacted(error.get("message", "") if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        return redacted(text) if "<" not in text[:20] else ""
