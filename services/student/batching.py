"""Brings questions together so that the engine answers many at once, one batch at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from services.common import logs
from services.common.errors import DeadlineExceeded, deadline_exceeded
from services.student.engines.base import Complete, Completion, Engine, Job, Result, Weights
from services.student.lockstep import in_lockstep

_log = logs.get_logger("student.batching")


@dataclass(eq=False)
class _Group:
    """Jobs that are done in one batch, with the promise of their completions."""

    jobs: list[Job]
    adapter: Weights | None
    done: asyncio.Future[list[Completion]]
    born: float = field(default_factory=time.monotonic)


class Batcher:
    """Feeds an engine.

    Single jobs are gathered: the first waits a moment for others of the same adapter, and what comes while the engine
    works goes into its next batch together. A group stays as it is, so that what it gives does not depend on other
    callers. Both kinds take turns, and a group that is being written makes way for single jobs between two steps: a
    question is not kept waiting by an evaluation, which gets half of the time at least.
    """

    def __init__(self, engine: Engine, executor: Executor, *, max_batch: int, window_seconds: float) -> None:
        """Starts when `run` is awaited.

        Args:
            engine: Does the work.
            executor: With the one thread that the engine runs in.
            max_batch: Most jobs that are gathered into a batch.
            window_seconds: How long the first job waits for company.
        """
        self._engine = engine
        self._executor = executor
        self._max_batch = max_batch
        self._window = window_seconds
        self._singles: deque[_Group] = deque()
        self._groups: deque[_Group] = deque()
        # The engine's thread takes from the queues, too; held for moments, never while anything is waited for.
        self._queues = threading.Lock()
        self._work = asyncio.Event()
        self._singles_turn = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pause_from = 0.0

    async def complete(self, job: Job, adapter: Weights | None) -> Completion:
        """Completes a prompt, together with others that come at about the same time.

        Raises:
            DeadlineExceeded: The job's deadline passed; its decoding has ended.
        """
        completion = (
            await self._wait(_Group([job], adapter, asyncio.get_running_loop().create_future()), self._singles)
        )[0]
        if completion.finish == "deadline":
            raise deadline_exceeded()
        return completion

    async def complete_group(self, jobs: Sequence[Job], adapter: Weights | None) -> list[Completion | DeadlineExceeded]:
        """Completes prompts in a batch of their own; an error stands in the place of a job that was too late."""
        group = _Group(list(jobs), adapter, asyncio.get_running_loop().create_future())
        completions = await self._wait(group, self._groups)
        return [deadline_exceeded() if c.finish == "deadline" else c for c in completions]

    async def together(self, works: Sequence[Callable[[Complete], Awaitable[Result]]]) -> list[Result]:
        """Does works whose prompts are completed in batches that depend on the works and their order only."""
        return await in_lockstep(self.complete_group, works)

    async def _wait(self, group: _Group, queue: deque[_Group]) -> list[Completion]:
        with self._queues:
            queue.append(group)
        self._work.set()
        try:
            # A deadline may pass while another batch runs: nobody waits for that.
            deadlines = [job.deadline for job in group.jobs if job.deadline is not None]
            left = max(deadlines) - time.monotonic() if len(deadlines) == len(group.jobs) else None
            return await asyncio.wait_for(group.done, None if left is None else max(0.0, left) + 0.05)
        except TimeoutError:
            raise deadline_exceeded() from None
        finally:
            # For a caller that went away: without effect on what is done.
            for job in group.jobs:
                job.cancel()

    async def run(self) -> None:
        """Works until it is cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            with self._queues:
                batch = self._next()
            if not batch:
                self._work.clear()
                await self._work.wait()
                continue
            if isinstance(batch, float):
                await asyncio.sleep(batch)
                continue
            await self._do(batch)

    def _next(self) -> list[_Group] | float:
        """The groups of the next batch; a float says how many seconds company is waited for; empty: no work."""
        for queue in (self._singles, self._groups):
            _drop_gone(queue)
        if self._groups and not (self._singles and self._singles_turn):
            self._singles_turn = True
            return [self._groups.popleft()]
        batch = self._next_singles()
        if isinstance(batch, list) and batch:
            self._singles_turn = False
        return batch

    def _next_singles(self) -> list[_Group] | float:
        """The same of single jobs alone."""
        if not self._singles:
            return []
        oldest = self._singles[0]
        batch = [group for group in self._singles if group.adapter is oldest.adapter][: self._max_batch]
        wait = oldest.born + self._window - time.monotonic()
        if wait > 0 and len(batch) < self._max_batch:
            return wait
        for group in batch:
            self._singles.remove(group)
        return batch

    async def _do(self, batch: list[_Group]) -> None:
        assert self._loop is not None
        # Only a group makes way: single jobs that come while others are written are in the next batch at once.
        pause = self._make_way if len(batch[0].jobs) > 1 else None
        _give(batch, await self._loop.run_in_executor(self._executor, self._write, batch, pause))

    def _write(self, batch: list[_Group], pause: Callable[[], None] | None = None) -> list[Completion] | Exception:
        """What the engine writes for a batch, or its failure. Called in the engine's thread."""
        jobs = [job for group in batch for job in group.jobs]
        try:
            return self._engine.generate(jobs, batch[0].adapter, pause)
        except Exception as error:
            _log.error("generation failed", jobs=len(jobs), **logs.describe_exception(error))
            return error

    def _make_way(self) -> None:
        """Answers the single jobs that wait, between two steps of a group. Called in the engine's thread."""
        assert self._loop is not None
        if not self._singles or time.monotonic() < self._pause_from:
            return
        with self._queues:
            _drop_gone(self._singles)
            batch = self._next_singles()
        if isinstance(batch, list) and batch:
            began = time.monotonic()
            self._loop.call_soon_threadsafe(_give, batch, self._write(batch))
            now = time.monotonic()
            self._pause_from = now + (now - began)


def _drop_gone(queue: deque[_Group]) -> None:
    """Takes out what nobody waits for any more."""
    for group in [group for group in queue if group.done.done()]:
        queue.remove(group)


def _give(batch: list[_Group], outcome: list[Completion] | Exception) -> None:
    """Keeps the promises of a batch."""
    if isinstance(outcome, Exception):
        for group in batch:
            if not group.done.done():
                group.done.set_exception(outcome)
        return
    found = iter(outcome)
    for group in batch:
        own = [next(found) for _ in group.jobs]
        if not group.done.done():
            group.done.set_result(own)
