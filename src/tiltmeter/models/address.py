"""Addresses of served models: which texts are some, and which may be written down. No network here.

An address is kept in run.json, in every row and in messages, so it must hold no secret; the key comes from the
environment.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from tiltmeter.errors import UserError

CONNECT_S = 5.0
_USER = re.compile(r"//[^/\s]*@|^[^/\s@]+:[^/\s@]+@")  # user:password@, with or without a scheme before it
_NAMED = re.compile(r"(?i)(key|token|secret|passw\w*|auth|sig\w*)=")


def is_address(source: str) -> bool:
    """Whether `source` names a served endpoint rather than a checkpoint."""
    try:
        return urlsplit(source).scheme in ("http", "https")
    except ValueError:  # "http://[": no address that could be asked, and no folder either
        return True


def address_and_name(source: str) -> tuple[str, str]:
    """(address, name or "") of ADDRESS#NAME. Raises UserError for what is none, or carries a secret."""
    refuse_secret(source)
    try:
        parts = urlsplit(source)
        named = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        named = None
    if not named:
        raise UserError(f"{source} is no address of a server", fix="write it as http://HOST:PORT/v1")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/").removesuffix("/completions"), parts.fragment


def refuse_secret(source: str) -> None:
    """Raises UserError, which does not repeat it, for a text with a user, password or query where a model is named."""
    address = is_address(source)
    before, _, name = source.partition("#")
    secret = _USER.search(source) or (
        address and ("?" in source or "@" in before or "&" in name or _NAMED.search(source))
    )
    if secret and (address or not Path(source).expanduser().exists()):
        raise UserError(
            "an endpoint's address must hold neither user, password nor query",
            fix="put the key into the environment: export OPENAI_API_KEY=…",
        )


def reachable(source: str) -> None:
    """Raises UserError when nobody listens at an address: known in a moment, before anything heavy is imported.

    Behind a proxy only the proxy could tell, so nothing is asked there.
    """
    address, _ = address_and_name(source)
    parts = urlsplit(address)
    if parts.scheme in getproxies():
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), timeout=CONNECT_S).close()
    except (OSError, UnicodeError) as error:  # refused, no such host, a host name that is none
        why = "no connection within 5 s" if isinstance(error, TimeoutError) else getattr(error, "strerror", None)
        raise UserError(
            f"{address} cannot be reached: {why or type(error).__name__}", fix="start the server, or check the address"
        ) from None
