"""Signatures of webhooks: whether a body is from one who has the secret, and new enough where the time is signed too.

The header of the signature says which scheme it is. Comparisons take constant time, and no message quotes a signature
or a secret.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence

from pipelines.apps.collector.dialect import NotSigned, Request

TOLERANCE = 300  # seconds between the clock of the sender and this one


def check_signature(request: Request, secrets: str, now: float) -> str:
    """The scheme by which one of the secrets signed the request, a value of SCHEMES.

    secrets  as the sender shows them: one, or several with blanks between them while they are rotated
    now      seconds since 1970
    Errors: NotSigned.
    """
    for scheme, (header, check) in SCHEMES.items():
        if header in request.headers:
            check(request, secrets.split(), now)
            return scheme
    raise NotSigned(
        f"got no signature, allowed one of the headers {', '.join(header for header, _ in SCHEMES.values())}"
    )


def _standard(request: Request, secrets: Sequence[str], now: float) -> None:
    """Standard Webhooks: HMAC-SHA256 of `id.timestamp.body` as base64, in a list of `v1,...`."""
    id, stamp = _header(request, "webhook-id"), _header(request, "webhook-timestamp")
    _check_age(stamp, now)
    signed = b".".join((id.encode("utf-8", "replace"), stamp.encode(), request.body))
    given = [each[3:] for each in _header(request, "webhook-signature").split() if each[:3] == "v1,"]
    _compare(given, [_base64(_digest(_standard_key(secret), signed)) for secret in secrets])


def _stripe(request: Request, secrets: Sequence[str], now: float) -> None:
    """Stripe: HMAC-SHA256 of `timestamp.body` in hex, in `t=...,v1=...,v1=...`."""
    pairs = [each.strip().partition("=") for each in _header(request, "stripe-signature").split(",")]
    stamp = next((value for name, _, value in pairs if name == "t"), "")
    _check_age(stamp, now)
    signed = b".".join((stamp.encode(), request.body))
    given = [value for name, _, value in pairs if name == "v1"]
    _compare(given, [_digest(secret.encode(), signed).hex() for secret in secrets])


def _shopify(request: Request, secrets: Sequence[str], now: float) -> None:
    """Shopify: HMAC-SHA256 of the body as base64; no time is signed."""
    made = [_base64(_digest(secret.encode(), request.body)) for secret in secrets]
    _compare([_header(request, "x-shopify-hmac-sha256")], made)


def _github(request: Request, secrets: Sequence[str], now: float) -> None:
    """GitHub: HMAC-SHA256 of the body in hex; no time is signed."""
    made = [f"sha256={_digest(secret.encode(), request.body).hex()}" for secret in secrets]
    _compare([_header(request, "x-hub-signature-256")], made)


# scheme -> (the header of its signature, its check)
SCHEMES: dict[str, tuple[str, Callable[[Request, Sequence[str], float], None]]] = {
    "standard": ("webhook-signature", _standard),
    "stripe": ("stripe-signature", _stripe),
    "shopify": ("x-shopify-hmac-sha256", _shopify),
    "github": ("x-hub-signature-256", _github),
}


def _standard_key(secret: str) -> bytes:
    """The bytes of a secret such as whsec_...: base64 behind the mark. Errors: NotSigned."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise NotSigned("the secret of this webhook is not base64 behind whsec_, as Standard Webhooks has it") from None


def _header(request: Request, name: str) -> str:
    value = request.headers.get(name, "").strip()
    if not value:
        raise NotSigned(f"got no header {name}")
    return value


def _check_age(stamp: str, now: float) -> None:
    """Errors: NotSigned if a time in seconds since 1970 is none, or too far from now."""
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        raise NotSigned("got a signature without a time in seconds since 1970")
    if abs(int(stamp) - now) > TOLERANCE:
        raise NotSigned(f"got a signature whose time is more than {TOLERANCE} seconds from this clock")


def _digest(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _compare(given: Sequence[str], made: Sequence[str]) -> None:
    """Errors: NotSigned unless one of those given is one of those made; the time says nothing of where they differ."""
    found = False
    for one in given:
        for other in made:
            found |= hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
    if not found:
        raise NotSigned("got a signature of another body or secret")
