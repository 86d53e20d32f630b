"""Page tokens of List methods (AIP-158, https://google.aip.dev/158): opaque, checked, bound to their list."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from typing import Any

from services.common.errors import InvalidArgument


def encode_page_token(kind: str, payload: Any) -> str:
    """Packs where the next page starts.

    Args:
        kind: Names the list with all that shapes it, such as ``f"entries:{parent}:{filter}:{order_by}"``.
        payload: JSON value that the list needs to go on.

    Returns:
        URL-safe text.
    """
    body = json.dumps([_digest(kind), payload], separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )
    return base64.urlsafe_b64encode(_checksum(body) + body).decode().rstrip("=")


def decode_page_token(kind: str, token: str, fits: Callable[[Any], bool] = lambda payload: True) -> Any:
    """Unpacks a token of the same list.

    Args:
        kind: As given to `encode_page_token`.
        token: What the caller sent; "" is the first page.
        fits: Whether a payload is one that the list makes, for a token can be forged.

    Returns:
        The payload, or None for the first page.

    Raises:
        InvalidArgument: The token is damaged or belongs to another list (reason INVALID_PAGE_TOKEN).
    """
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        check, body = raw[:6], raw[6:]
        if check != _checksum(body):
            raise ValueError("checksum")
        owner, payload = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _damaged() from None
    if owner != _digest(kind):
        raise InvalidArgument(
            "page_token belongs to another list: keep parent, filter and order as they were, or start without a token",
            reason="INVALID_PAGE_TOKEN",
            field="page_token",
        )
    if not fits(payload):
        raise _damaged()
    return payload


def page_size(requested: int, *, default: int = 50, maximum: int = 1000) -> int:
    """The number of items of a page: 0 means the default, more than the maximum means the maximum (AIP-158).

    Raises:
        InvalidArgument: The number is negative.
    """
    if requested < 0:
        raise InvalidArgument(f"page_size is {requested}: it must not be negative", field="page_size")
    return min(requested or default, maximum)


def is_text(payload: Any) -> bool:
    """Whether a payload is an id or a name: short text of ASCII."""
    return isinstance(payload, str) and payload.isascii() and payload.isprintable() and len(payload) <= 256


def is_number(payload: Any) -> bool:
    """Whether a payload is a number that is not negative and has 64 bits."""
    return isinstance(payload, int) and not isinstance(payload, bool) and 0 <= payload < 2**63


def _damaged() -> InvalidArgument:
    return InvalidArgument(
        "page_token is damaged: pass next_page_token on as it came", reason="INVALID_PAGE_TOKEN", field="page_token"
    )


def _digest(kind: str) -> str:
    return hashlib.blake2b(kind.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=6).digest()
