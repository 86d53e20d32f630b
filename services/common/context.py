"""What is known about the call that runs now: its id, its deadline, and whether the server wants to stop.

The server's interceptor sets these variables once per call; tasks that the call starts inherit them (contextvars), and
``services.common.channel`` passes id and deadline on to every further call.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import Iterator
from contextvars import ContextVar

REQUEST_ID_KEY = "x-request-id"
"""Metadata key under which the request id travels, in both directions."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the current call, or "" outside of one."""

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
_stopping: ContextVar[asyncio.Event | None] = ContextVar("stopping", default=None)

_VALID_ID = re.compile(r"[A-Za-z0-9._:\-]{1,64}")


def new_request_id(proposed: str = "") -> str:
    """Returns the caller's id where it is harmless to log (1 to 64 of ``A-Za-z0-9._:-``), else a new random one."""
    return proposed if _VALID_ID.fullmatch(proposed) else uuid.uuid4().hex


def set_deadline(seconds: float | None) -> None:
    """Sets the deadline of the current call, in seconds from now; None means that there is none."""
    _deadline.set(None if seconds is None else time.monotonic() + seconds)


def remaining() -> float | None:
    """Seconds that the current call has left: never below 0, and None where no deadline was set."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())


@contextlib.contextmanager
def timeout(seconds: float) -> Iterator[None]:
    """Gives the enclosed block at most ``seconds``, or what the current call has left where that is less.

    Only the calls made inside are bound by it; the block itself is not interrupted.
    """
    left = remaining()
    token = _deadline.set(time.monotonic() + (seconds if left is None else min(seconds, left)))
    try:
        yield
    finally:
        _deadline.reset(token)


def set_stopping(event: asyncio.Event | None) -> None:
    """Gives the current call the event that its server sets when it begins to drain."""
    _stopping.set(event)


def stopping() -> bool:
    """Whether the server of the current call drains: streams that only watch should end now."""
    event = _stopping.get()
    return event is not None and event.is_set()


async def wait_stopping() -> None:
    """Returns when the server of the current call begins to drain; outside of a server, never."""
    event = _stopping.get()
    await (event or asyncio.Event()).wait()
