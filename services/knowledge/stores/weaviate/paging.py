"""Pages of objects by a number that they have, without sorting all that fit for each page.

The server sorts by reading every object that fits. Where many fit, a window of the number is asked for that holds about
a page: whether a window holds so many is cheap to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weaviate.classes.query import Filter as By
from weaviate.classes.query import Sort

from services.knowledge.stores.weaviate.filters import all_of

MANY = 10_000  # the most that the server returns at once
_FEW = 200
_SOME = 500
_FIRST_STEP = 1_000_000


async def first_by(
    collection: Any,
    key: str,
    low: int,
    high: int,
    limit: int,
    where: Any,
    properties: list[str],
    fits: Callable[[Any], bool] = lambda found: True,
) -> list[Any]:
    """Objects in the order of a number, then of their ids.

    Args:
        collection: Where they are.
        key: The property that holds the number.
        low: The smallest number that counts.
        high: The largest one.
        limit: At most this many objects.
        where: Which objects count; None: all.
        properties: What to return; the key is added.
        fits: Drops some of those at the lower end.
    """
    found: list[Any] = []
    properties = [*properties, key]
    while len(found) < limit and low <= high:
        wanted = limit - len(found)
        room = min(max(2 * wanted, _FEW), MANY - 1)
        top = await _page_end(collection, key, low, high, where, wanted, room)
        window = _window(key, low, top, where)
        page = (
            await collection.query.fetch_objects(filters=window, limit=room + 1, return_properties=properties)
        ).objects
        if len(page) > room:
            if top > low:  # something was written meanwhile
                continue
            page = await _all_sorted(collection, window, properties)
        found += sorted((one for one in page if fits(one)), key=lambda one: (one.properties[key], str(one.uuid)))
        low = top + 1
    return found[:limit]


async def _page_end(collection: Any, key: str, low: int, high: int, where: Any, wanted: int, room: int) -> int:
    """Where a window from `low` ends that holds between `wanted` and `room` objects, or all that are left."""

    async def holds(end: int, number: int) -> bool:
        return await _holds(collection, _window(key, low, end, where), number)

    if not await holds(high, room + 1):
        return high
    few, many = low - 1, high  # too few objects up to here, and too many
    total = (await collection.aggregate.over_all(total_count=True)).total_count or 1
    # Wide enough if all objects fit and lie evenly; else it grows.
    width = max(1, (high - low + 1) * wanted // total)
    while low + width - 1 < high:
        end = low + width - 1
        if await holds(end, wanted):
            if not await holds(end, room + 1):
                return end
            many = end
            break
        few = end
        width *= 2
    while many - few > 1:
        end = (few + many) // 2
        if not await holds(end, wanted):
            few = end
        elif await holds(end, room + 1):
            many = end
        else:
            return end
    # A number that too many objects share: those before it, or it alone.
    return few if few >= low and await holds(few, 1) else many


async def largest(collection: Any, key: str, known: int, likely: int) -> int:
    """The largest number that an object has.

    Args:
        collection: Where they are.
        key: The property that holds the number.
        known: A number that it is not below.
        likely: It is probably not far below this one.
    """
    above = By.by_property(key)

    async def some(low: int) -> list[int]:
        found = await collection.query.fetch_objects(
            filters=above.greater_than(low), limit=_SOME, return_properties=[key]
        )
        return [int(one.properties[key]) for one in found.objects]

    numbers = await some(known)
    if len(numbers) < _SOME:
        return max(numbers, default=known)
    # From above in growing steps, then halving, to a window with few objects.
    step, empty, low = _FIRST_STEP, None, likely
    while low > known and not await _holds(collection, above.greater_than(low), 1):
        empty, low, step = low, likely - step, step * 4
    low = max(low, known)
    while len(numbers := await some(low)) == _SOME:
        if empty is None:
            low = max(numbers)
        elif empty - low <= 1:
            return empty
        elif await _holds(collection, above.greater_than(middle := (low + empty) // 2), 1):
            low = middle
        else:
            empty = middle
    return max(numbers, default=low)


async def _holds(collection: Any, where: Any, number: int) -> bool:
    """Whether so many objects fit. The server counts by reading each object; this it answers without."""
    found = await collection.query.fetch_objects(filters=where, offset=number - 1, limit=1, return_properties=False)
    return bool(found.objects)


def _window(key: str, low: int, high: int, where: Any) -> Any:
    by_key = By.by_property(key)
    parts = [by_key.greater_or_equal(low), by_key.less_or_equal(high)]
    return all_of(parts if where is None else [*parts, where])


async def _all_sorted(collection: Any, where: Any, properties: list[str]) -> list[Any]:
    found = await collection.query.fetch_objects(
        filters=where, sort=Sort.by_id(), limit=MANY, return_properties=properties
    )
    return list(found.objects)
