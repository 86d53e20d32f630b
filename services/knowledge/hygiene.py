"""What a new entry says that another one says already: in other words, or with another value."""

from __future__ import annotations

import hashlib
import re

_WORD = re.compile(r"[^\W_]+")


def claim_keys(text: str) -> tuple[str, ...]:
    """Keys that a text shares with texts that may repeat or contradict it.

    Stores index them, so that a block of new entries is compared with all others in one look-up.

    Args:
        text: An entry's text.

    Returns:
        None to a few short keys.
    """
    words = [word for word in _WORD.findall(text.lower()) if not word.isdigit()]
    return (hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()[:24],) if len(words) > 1 else ()
