"""Watching: every change is told once it is there, in order, from a token on."""

from __future__ import annotations

import asyncio
import dataclasses

from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.component.knowledge.congruence.backends import Base


async def start_token(kb: Base) -> str:
    """A token of now."""
    entry = await kb.create("before")
    # How often it is changed before the watch has begun is the machine's matter, and not compared.
    unseen = dataclasses.replace(kb, seen=[])
    async with kb.watching() as call:
        reading = asyncio.ensure_future(call.read())
        number = 0
        while not reading.done():
            number += 1
            await unseen.update(entry.name, "title", title=str(number))
            await asyncio.wait([reading], timeout=2)
        told = await reading
        while told.entry.title != str(number):
            told = await asyncio.wait_for(call.read(), 30)
    return told.watch_token


async def case_changes_are_told_in_order_from_a_token(kb: Base) -> None:
    first = await kb.create("zero")
    token = await start_token(kb)
    one = await kb.create("Watched number one")
    await kb.call("UpdateKnowledgeBase", knowledge_base={"name": kb.name, "title": "no entry"})
    two = await kb.create("Then another thing")
    changed = await kb.update(one.name, "title", title="changed")
    await kb.feed_back(first.name, used=1)
    seen: list[pb.WatchEntriesResponse] = []
    async with kb.watching(token) as call:
        while not seen or seen[-1].entry.name != first.name:
            seen.append(await asyncio.wait_for(call.read(), 10))
        later = await kb.create("While somebody watches")
        seen.append(await asyncio.wait_for(call.read(), 10))
    assert seen[-1].entry == later
    versions = [change.version for change in seen]
    assert versions == sorted(set(versions))
    # One that changed twice is told once, as it is now.
    assert [change.entry.name for change in seen if change.entry.name == one.name] == [one.name]
    assert changed in [change.entry for change in seen] and two in [change.entry for change in seen]
    kb.observe("watched", [change.entry.text for change in seen])
    async with kb.watching(seen[0].watch_token) as call:
        again = [await asyncio.wait_for(call.read(), 10) for _ in seen[1:]]
    assert [change.entry.name for change in again] == [change.entry.name for change in seen[1:]]


async def case_a_token_of_something_else_is_refused(kb: Base) -> None:
    for i in range(2):
        await kb.create(f"entry w{i}")
    token = (await kb.call("ListEntries", page_size=1)).next_page_token
    for wrong in (token, "x", "AAAA"):
        async with kb.watching(wrong) as call:
            await kb.stream_fails(call, "INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")


async def case_a_watch_ends_with_its_base(kb: Base) -> None:
    token = await start_token(kb)
    async with kb.watching(token) as call:
        reading = asyncio.ensure_future(call.read())
        await asyncio.sleep(0.2)
        await kb.call("DeleteKnowledgeBase", force=True)
        try:
            await asyncio.wait_for(reading, 15)
        except TimeoutError:
            raise
        except Exception as error:
            assert "NOT_FOUND" in str(error), error
        else:
            raise AssertionError("the watch must end")


async def case_a_watch_goes_on_after_a_restart(kb: Base) -> None:
    token = await start_token(kb)
    await kb.create("Before the restart")
    await asyncio.to_thread(kb.backend.process.kill)
    await asyncio.to_thread(kb.backend.process.start)
    await asyncio.sleep(1.2)  # the channel connects again
    after = await kb.create("After the restart")
    texts: list[str] = []
    async with kb.watching(token) as call:
        while after.text not in texts:
            texts.append((await asyncio.wait_for(call.read(), 10)).entry.text)
    assert texts == ["Before the restart", "After the restart"]
