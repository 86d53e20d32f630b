"""How fast this process may ask the teacher: slots, requests and tokens a minute, and pauses that the teacher orders.

The limits are of one process; with several replicas, give each its share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from services.teacher import metrics

Clock = Callable[[], float]


class TokenBucket:
    """A bucket that refills evenly and may go into debt: who takes, waits until the debt is paid, in order of coming.

    Args:
        per_minute: The rate; 0 means no limit.
        burst_seconds: How many seconds of the rate may be saved up.
        clock: Seconds, monotonic.
    """

    def __init__(self, per_minute: float, burst_seconds: float = 1.0, clock: Clock = time.monotonic) -> None:
        self._rate = per_minute / 60.0
        self._capacity = max(1.0, self._rate * burst_seconds)
        self._level = self._capacity
        self._clock = clock
        self._at = clock()

    def take(self, amount: float) -> float:
        """Takes `amount`, and returns the seconds to wait before using it."""
        if not self._rate:
            return 0.0
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        self._level -= amount
        return max(0.0, -self._level / self._rate)

    def give_back(self, amount: float) -> None:
        """Returns what was taken and not used (negative: takes what was used on top)."""
        self._level = min(self._capacity, self._level + amount)


class Slot:
    """The right to send one request. `used` corrects the tokens that were taken in advance."""

    def __init__(self, tokens: TokenBucket, taken: float) -> None:
        self._tokens = tokens
        self._taken = taken

    def used(self, tokens: float) -> None:
        """Says how many tokens the request really used."""
        self._tokens.give_back(self._taken - tokens)
        self._taken = tokens


class Limits:
    """Slots and buckets together.

    Args:
        slots: Most requests at the teacher at the same time.
        requests_per_minute: 0 for no limit.
        tokens_per_minute: Prompt and completion; 0 for no limit.
    """

    def __init__(self, slots: int, requests_per_minute: float = 0, tokens_per_minute: float = 0) -> None:
        metrics.SLOTS.set(slots)
        self._slots = asyncio.Semaphore(slots)
        self._requests = TokenBucket(requests_per_minute)
        self._tokens = TokenBucket(tokens_per_minute)
        self._paused_until = 0.0

    def pause(self, seconds: float) -> None:
        """Lets no new request start for so long: the teacher said so, and it means all of us."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    @asynccontextmanager
    async def slot(self, tokens: float) -> AsyncIterator[Slot]:
        """Waits until a request of about `tokens` tokens may be sent, and holds its slot."""
        async with AsyncExitStack() as held:
            with metrics.WAITING.track_inprogress():
                await held.enter_async_context(self._slots)
                await self._wait_for_rate(tokens)
            with metrics.SENT.track_inprogress():
                yield Slot(self._tokens, tokens)

    async def _wait_for_rate(self, tokens: float) -> None:
        wait = max(self._requests.take(1), self._tokens.take(tokens))
        try:
            if wait:
                await asyncio.sleep(wait)
            # A loop, because the pause can be prolonged meanwhile.
            while (rest := self._paused_until - time.monotonic()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(rest)
        except asyncio.CancelledError:
            self._requests.give_back(1)
            self._tokens.give_back(tokens)
            raise
