"""Statements in DSSE envelopes, signed and verified with a key of the user's own (securesystemslib).

A signature says who vouches for a statement, not that it is true: `tiltmeter verify --run` also holds the statement to
a run's own answers. Source: https://github.com/secure-systems-lab/dsse.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError, missing_extra

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MOST_BYTES = 64 * 2**20  # of an envelope that is read


def sealed(statement: bytes, key: Path) -> dict[str, object]:
    """The DSSE envelope of a statement, signed with a private key (PEM: ed25519, ECDSA or RSA). Raises UserError."""
    dsse, signer = _library()
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        private: Any = load_pem_private_key(key.read_bytes(), password=None)
        envelope = dsse.Envelope(statement, PAYLOAD_TYPE, {})
        envelope.sign(signer.CryptoSigner(private))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{key} is no private key that can sign: {error}",
            fix="make one: openssl genpkey -algorithm ed25519 -out key.pem (no passphrase)",
        ) from None
    return dict(envelope.to_dict())


def opened(path: Path, key: Path | None) -> tuple[dict[str, object], str | None]:
    """A stored statement, and the id of the key that vouches for it; None where it is not signed or no key is given.

    Raises UserError for a file that is no statement, and for a signature that the key does not confirm.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES // 2**20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        if "payloadType" not in content:
            return content, None
        payload = _payload(content, key)
        statement = json.loads(payload[0])
        if not isinstance(statement, dict):
            raise ValueError("the payload is not a JSON object")
        return statement, payload[1]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is no statement: {error}", fix="give a file that `tiltmeter evidence` wrote") from None


def _payload(content: dict[str, object], key: Path | None) -> tuple[bytes, str | None]:
    dsse, signer = _library()
    if content["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"payload type {str(content['payloadType'])[:80]!r} instead of {PAYLOAD_TYPE}")
    envelope = dsse.Envelope.from_dict(content)
    if key is None:
        return envelope.payload, None
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.exceptions import VerificationError

    try:
        public = signer.SSlibKey.from_crypto(load_pem_public_key(key.read_bytes()))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{key} is no public key: {error}", fix="openssl pkey -in key.pem -pubout -out key.pub"
        ) from None
    try:
        envelope.verify([public], threshold=1)
    except VerificationError:
        raise UserError(
            "the signature is not of this key, or the statement was changed after it was signed",
            fix="take the statement from its author again, and the key from where you trust it",
        ) from None
    return envelope.payload, str(public.keyid)


def _library() -> tuple[Any, Any]:
    try:
        import securesystemslib.dsse as dsse
        import securesystemslib.signer as signer
        from cryptography.hazmat.primitives import serialization  # noqa: F401
    except ImportError:
        raise missing_extra("securesystemslib", "evidence", "signed statements") from None
    return dsse, signer
