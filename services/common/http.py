"""HTTP with the servers of others: OpenAI's API above all."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import aiohttp
from pydantic import SecretStr

from services.common.settings import is_loopback

_KEPT_SECONDS = 4
"""Less than servers keep a connection (uvicorn: 5 s): one that is closed just now looks like a lost answer."""
# A server's error code may be shown; its error text may not: it can repeat the prompt.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def http_session(
    url: str, api_key: SecretStr, *, seconds: float, connect_seconds: float, connections: int = 0
) -> aiohttp.ClientSession:
    """Makes a session with one server; it belongs to the running event loop, and its owner closes it.

    Args:
        url: Any address of the server: whether it is reached through a proxy depends on it.
        api_key: Sent as a bearer token where it is not empty; never printed.
        seconds: What a request may take in all.
        connect_seconds: What getting a connection may take.
        connections: Most connections at a time; 0: as many as are wanted.
    """
    key = api_key.get_secret_value()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEPT_SECONDS),
        timeout=aiohttp.ClientTimeout(total=seconds, connect=connect_seconds),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        # Not aiohttp's trust_env, which would also send names and passwords of a .netrc.
        proxy=proxy_for(url),
    )


def proxy_for(url: str) -> str | None:
    """The proxy that leads to a server, as the environment says: HTTPS_PROXY or HTTP_PROXY, and NO_PROXY.

    A server of this machine is asked directly whatever the environment says: no proxy elsewhere could reach it.

    Args:
        url: An address of the server.

    Returns:
        The proxy's address, with name and password where it has them; None: there is none on the way.
    """
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    if not parts.hostname or is_loopback(parts.hostname) or proxy_bypass_environment(where):
        return None
    proxy = getproxies_environment().get(parts.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


async def read_json(response: aiohttp.ClientResponse, limit: int, too_long: Exception) -> Any:
    """Reads a body of bounded size: a broken server must not fill the memory.

    Args:
        response: Its body is not read yet.
        limit: Most bytes.
        too_long: Is raised where there are more.

    Returns:
        See `parse_json`.
    """
    body = bytearray()
    async for part in response.content.iter_chunked(65_536):
        body += part
        if len(body) > limit:
            raise too_long
    return parse_json(bytes(body))


def parse_json(raw: bytes) -> Any:
    """Returns what the JSON says; None where it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def error_codes(body: Any) -> list[str]:
    """The short codes of an error, as OpenAI's API and text-generation-inference give them.

    Args:
        body: The parsed response, whatever it is.
    """
    fields = body if isinstance(body, dict) else {}
    inner = fields.get("error")
    fields = inner if isinstance(inner, dict) else fields
    codes = [fields.get(name) for name in ("code", "type", "error_type")]
    return [code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)]


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Reads a Retry-After header (RFC 9110, 10.2.3): seconds, or an HTTP date.

    Args:
        header: The header's value.
        now: The present time; None takes the clock's.

    Returns:
        Seconds to wait, at least 0; None where the header is absent or unreadable.
    """
    if not header:
        return None
    header = header.strip()
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except (ValueError, TypeError, OverflowError):
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
