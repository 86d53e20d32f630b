"""Pages of objects by a number that they have, without sorting all that fit for each page.

The server sorts by reading every object that fits. Where many fit, a window of the number is asked for that holds about
a page: how many fit is cheap to know.
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
    total = await _count(collection, _window(key, low, high, where))
    while len(found) < limit and low <= high and total > 0:
        wanted = limit - len(found)
        room = min(max(2 * wanted, _FEW), MANY - 1)
        # As wide as holds a page and a half, if they lie evenly.
        width = high - low + 1
        top = high if total <= room else low + max(1, width * min(max(wanted * 3 // 2, _FEW // 2), room // 2) // total) - 1
        while True:
            window = _window(key, low, top, where)
            page = (
                await collection.query.fetch_objects(filters=window, limit=room + 1, return_properties=properties)
            ).objects
            if len(page) <= room:
                break
            if top == low:  # all of one number
                page = await _all_sorted(collection, window, properties)
                break
            top = low + (top - low) // 4
        total -= len(page)
        page = [one for one in page if fits(one)]
        found += sorted(page, key=lambda one: (one.properties[key], str(one.uuid)))
        low = top + 1
        if not page and total > 0 and top < high:
            # Nothing lies there: see how many are left, in case that something was written meanwhile.
            total = await _count(collection, _window(key, low, high, where))
    return found[:limit]


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
