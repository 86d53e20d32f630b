"""Writers of one base take turns: those of this process always, those of others through Redis where there is one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from services.common.errors import Unavailable
from services.knowledge import names, reasons

_LEASE = 30.0  # seconds after which a writer that died makes room for the next one
_WAIT = 30.0


class Turn:
    """The right to write, as long as it lasts."""

    def __init__(self, kb: str) -> None:
        self.kb = kb
        self.is_lost = False

    def check(self) -> None:
        """Raises Unavailable where another writer may have begun."""
        if self.is_lost:
            raise _unavailable(self.kb, "was lost")


class Turns:
    """Gives writers their turns.

    Args:
        redis_url: Where writers of several processes meet; empty: there is one process.
        space: What is written to; processes with the same one take turns.
    """

    def __init__(self, redis_url: str, space: str) -> None:
        self._space = space
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._redis: Any = None
        if redis_url:
            from redis.asyncio import Redis

            self._redis = Redis.from_url(redis_url, socket_timeout=5.0, socket_connect_timeout=5.0)

    @property
    def are_shared(self) -> bool:
        """Whether other processes write too."""
        return self._redis is not None

    async def check(self) -> None:
        """Raises Unavailable where Redis cannot be reached."""
        if self._redis is not None:
            with _redis_errors("*"):
                await self._redis.ping()

    async def close(self) -> None:
        """Closes the connection to Redis."""
        if self._redis is not None:
            await self._redis.aclose()

    @asynccontextmanager
    async def take(self, kb: str) -> AsyncIterator[Turn]:
        """Waits for the turn to write a base.

        Raises:
            Unavailable: It was not given in time or was lost, or Redis cannot be reached.
        """
        turn = Turn(kb)
        async with self._locks.setdefault(kb, asyncio.Lock()):
            if self._redis is None:
                yield turn
                return
            lock = self._redis.lock(
                f"nesycd:knowledge:{self._space}:{kb}", timeout=_LEASE, sleep=0.02, blocking_timeout=_WAIT
            )
            with _redis_errors(kb):
                if not await lock.acquire():
                    raise _unavailable(kb, "was not given in time")
            renewal = asyncio.create_task(self._renew(lock, turn))
            try:
                yield turn
                turn.check()
            finally:
                renewal.cancel()
                # Where it fails, the lease ends by itself.
                with contextlib.suppress(Exception):
                    await lock.release()

    async def _renew(self, lock: Any, turn: Turn) -> None:
        from redis.exceptions import LockError, RedisError

        loop = asyncio.get_running_loop()
        until = loop.time() + _LEASE
        while not turn.is_lost:
            await asyncio.sleep(_LEASE / 6)
            asked = loop.time()
            try:
                await lock.reacquire()
                until = asked + _LEASE
            except LockError:
                turn.is_lost = True
            except (RedisError, OSError, TimeoutError):
                turn.is_lost = loop.time() > until - _LEASE / 3


@contextlib.contextmanager
def _redis_errors(kb: str) -> Any:
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise _unavailable(kb, "cannot be had, Redis cannot be reached") from error


def _unavailable(kb: str, what: str) -> Unavailable:
    where = names.base_name(kb) if kb != "*" else "knowledge bases"
    return Unavailable(
        f"the turn to write {where} {what}: repeat the request later", reason=reasons.STORE_UNAVAILABLE, retry_after=1.0
    )
