"""Tokens of workers: who has a lease, and whether that process is known to be gone."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def new_token() -> str:
    """A token for one turn of this process: where it lives, its pid and start time, and a random part."""
    return "|".join((_place(), str(os.getpid()), _start_time(os.getpid()) or "", uuid.uuid4().hex))


def is_gone(token: str) -> bool:
    """Whether a token's process is certainly dead: it lived here, and no process with its pid and start time is left.

    A worker that was killed is replaced at once where this can tell, instead of after its lease has expired.
    """
    try:
        place, pid, start, _ = token.split("|")
        return bool(start) and place == _place() and _start_time(int(pid)) != start
    except ValueError:
        return False


def _place() -> str:
    """This boot of this machine and this space of pids; empty parts where the system does not tell."""
    parts = []
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        return uuid.uuid4().hex  # equal to no other place: nothing can be told
    return "/".join(parts)


def _start_time(pid: int) -> str | None:
    """Start of a process in clock ticks since the boot; None where there is no such process, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
