"""What is read out of HTTP responses of others."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


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
