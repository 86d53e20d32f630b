"""Doing several things at once, with results in the order of what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def map_in_order(
    function: Callable[[Item], Awaitable[Result]], items: AsyncIterator[Item], *, concurrency: int
) -> AsyncGenerator[Result, None]:
    """Applies `function` to items as they arrive and yields its results in their order.

    At most `concurrency` items are taken from the stream ahead of the result that is
    waited for, so a slow consumer slows the producer. Leaving the loop early cancels what runs.

    Args:
        function: What to do with an item; an exception in it ends the iteration.
        items: The items.
        concurrency: How many run at once.

    Yields:
        The results, in the order of the items.
    """
    running: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()
    slots = asyncio.Semaphore(concurrency)

    async def feed() -> None:
        try:
            async for item in items:
                await slots.acquire()
                running.put_nowait(asyncio.ensure_future(function(item)))
        finally:
            running.put_nowait(None)

    feeder = asyncio.ensure_future(feed())
    try:
        while (task := await running.get()) is not None:
            try:
                yield await task
            finally:
                task.cancel()
                slots.release()
        await feeder
    finally:
        feeder.cancel()
        # Whoever made the items can close them only when nobody takes one any more.
        await asyncio.gather(feeder, return_exceptions=True)
        while not running.empty():
            if (task := running.get_nowait()) is not None:
                task.cancel()
