"""Finds runs whose worker is gone, or whose message is, and sends them again. Any number of processes may do so at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from jobs.app import CPU_QUEUE, GPU_QUEUE
from jobs.owners import is_gone
from jobs.state import RunStore
from services.common.logs import get_logger

log = get_logger("nesycd.recovery")
_LOST_MESSAGE_SECONDS = 10.0
"""A run that waits longer than this while every queue is empty has lost its message."""
_LOST_IN_QUEUE_SECONDS = 600.0
"""The same where queues are busy: then a message that is sent again only waits a second time."""


def recover_orphans(
    store: RunStore,
    send: Callable[[str, str, int], None],
    *,
    missed: dict[str, float] | None = None,
    grace: float = 0.0,
) -> list[str]:
    """Sends the runs again that nobody works at and nobody will.

    Args:
        store: The state of runs.
        send: Puts (run, stage, round) into its queue.
        missed: When a run was first seen without a lease; kept by the caller from call to call.
        grace: A run whose worker is not known to be dead gets so many seconds more: after an outage of Redis its worker
            comes back for the lease.

    Returns:
        The runs that were sent again.
    """
    missed = {} if missed is None else missed
    active = store.active()
    for run_id in [known for known in missed if known not in active]:
        del missed[run_id]
    if not active:
        return []
    empty = not any(store.client.llen(queue) for queue in (CPU_QUEUE, GPU_QUEUE))
    waited = _LOST_MESSAGE_SECONDS if empty else _LOST_IN_QUEUE_SECONDS
    sent = []
    for run_id in active:
        owner, last = store.owner(run_id), store.last_owner(run_id)
        dead = owner if owner and is_gone(owner) else ""
        if owner and not dead:
            missed.pop(run_id, None)
            continue
        if not owner and last and not is_gone(last):
            since = missed.setdefault(run_id, time.monotonic())
            if time.monotonic() - since < grace:
                continue
        outcome, stage, round_ = store.reclaim(run_id, dead=dead, queued_before=time.time() - waited)
        if outcome == "AGAIN":
            log.warning("run_recovered", run=run_id, stage=stage, round=round_)
            sent.append(run_id)
        if outcome in ("AGAIN", "CANCELLED"):  # a worker that finds it over has the student forget its adapters
            send(run_id, stage, round_)
    return sent


class RecoveryThread(threading.Thread):
    """Calls `recover_orphans` every few seconds, until stopped; failures are logged and tried again."""

    def __init__(self, store: RunStore, send: Callable[[str, str, int], None], every: float) -> None:
        super().__init__(name="recovery", daemon=True)
        self._store, self._send, self._every = store, send, every
        self._stopped = threading.Event()
        self._missed: dict[str, float] = {}

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopped.is_set():
            try:
                grace = max(3.0, self._store.lease_ms / 2000)
                recover_orphans(self._store, self._send, missed=self._missed, grace=grace)
            except Exception as error:
                log.warning("recovery_failed", error=type(error).__name__)
            self._stopped.wait(self._every)

    def stop(self) -> None:
        """Ends the thread soon."""
        self._stopped.set()
