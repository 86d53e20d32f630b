"""Pages of objects by a number that they have, without sorting all that fit for each page.

The server sorts by reading every object that fits. Where many fit, a window of the number is asked for that holds about
a page: how many lie in a window is cheap to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weaviate.classes.query import Filter as By
from weaviate.classes.query import Sort

from services.knowledge.stores.weaviate.filters import all_of

MANY = 10_000  # the most that the server returns at once
_FEW = 200


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
    total = await _count(collection, _window(key, low, high, where))
    if total <= room:
        return high
    few, many = low - 1, high  # too few objects up to here, and too many
    fewest = 0
    end = low + (high - low + 1) * ((wanted + room) // 2) // total  # right if they lie evenly
    while many - few > 1:
        end = min(max(end, few + 1), many - 1)
        count = await _count(collection, _window(key, low, end, where))
        if wanted <= count <= room:
            return end
        if count < wanted:
            few, fewest = end, count
        else:
            many = end
        end = (few + many) // 2
    # A number that too many objects share: those before it, or it alone.
    return few if fewest else many


def _window(key: str, low: int, high: int, where: Any) -> Any:
    by_key = By.by_property(key)
    parts = [by_key.greater_or_equal(low), by_key.less_or_equal(high)]
    return all_of(parts if where is None else [*parts, where])


async def _count(collection: Any, where: Any) -> int:
    return (await collection.aggregate.over_all(filters=where, total_count=True)).total_count or 0


async def _all_sorted(collection: Any, where: Any, properties: list[str]) -> list[Any]:
    found = await collection.query.fetch_objects(
        filters=where, sort=Sort.by_id(), limit=MANY, return_properties=properties
    )
    return list(found.objects)
