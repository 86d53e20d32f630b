"""The stand-in's book of calls: one JSON line a call, on disk before the caller sees an answer."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# An answer with one of these faults is of no use to the caller, who may ask again.
SPOILT = ("drop", "garbage", "truncate", "invalid_json")


class CallLog:
    """Appends calls to a file and counts them. Goes on with a file that is there already.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._statuses: Counter[int] = Counter()
        self._kinds: Counter[str] = Counter()
        self._paid: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()
        self._count = 0
        self._lock = asyncio.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        last = b"\n"
        for last in self._file:
            try:
                row = json.loads(last)
                self._add(row)
                self._attempts[row["digest"]] += 1
            except (ValueError, KeyError, TypeError):
                continue  # The line that a killed process left half-written.
        if not last.endswith(b"\n"):
            self._file.write(b"\n")

    def _add(self, row: dict[str, Any]) -> None:
        self._count += 1
        self._statuses[row["status"]] += 1
        self._kinds[row["kind"]] += 1
        if row["status"] == 200 and row.get("fault") not in SPOILT:
            self._paid[row["digest"]] += 1

    def attempt(self, digest: str) -> int:
        """How often this request came before; counts it."""
        self._attempts[digest] += 1
        return self._attempts[digest] - 1

    async def write(self, *, digest: str, kind: str, status: int, path: str, **more: Any) -> str:
        """Writes a call down, durably.

        Returns:
            The call's id.
        """
        async with self._lock:
            row = {
                "id": f"call-{self._count + 1:06d}",
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "digest": digest,
                "kind": kind,
                "status": status,
                "path": path,
                **more,
            }
            await asyncio.to_thread(self._append, json.dumps(row).encode() + b"\n")
            self._add(row)
            return str(row["id"])

    def _append(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def summary(self) -> dict[str, Any]:
        """Counts for ``GET /calls``."""
        return {
            "count": self._count,
            "answered": sum(self._paid.values()),
            "distinct_answered": len(self._paid),
            "answered_again": sum(self._paid.values()) - len(self._paid),
            "by_status": {str(status): count for status, count in sorted(self._statuses.items())},
            "by_kind": dict(sorted(self._kinds.items())),
        }

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
