"""A server that sends whatever bytes it is told to, as slowly as it is told to."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Reply = Callable[[str, bytes], Iterator[bytes | float]]  # (path, request body) -> bytes to send, seconds to wait


def reply(body: object, status: str = "200 OK", **headers: str) -> Iterator[bytes | float]:
    """A whole answer; a body that is not bytes goes as JSON, with NaN and Infinity where it holds them."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    yield ("\r\n".join(lines) + "\r\n\r\n").encode() + content


@contextmanager
def serving(answer: Reply) -> Iterator[str]:
    """The address (…/v1) of a server that answers every request with what `answer` yields."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, answer), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.close()


def _accept(listener: socket.socket, answer: Reply) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except (OSError, IndexError):  # the client left
            return
        threading.Thread(target=_serve, args=(connection, answer), daemon=True).start()


def _serve(connection: socket.socket, answer: Reply) -> None:
    with connection:
        try:
            head, body = b"", b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536) or b"\r\n\r\n"
            head, _, body = head.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower()[:15] == b"content-length:"), 0
            )
            while len(body) < length:
                body += connection.recv(65536)
            for part in answer(head.split(b" ")[1].decode(), body):
                time.sleep(part) if isinstance(part, float) else connection.sendall(part)
        except (OSError, IndexError):  # the client left
            return
