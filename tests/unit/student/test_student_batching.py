"""The batcher: who is answered together with whom, and what happens to those that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from services.common.errors import DeadlineExceeded
from services.student.batching import Batcher
from services.student.engines.base import Completion, Job


@dataclass(eq=False)
class Adapter:
    name: str


@dataclass
class EchoEngine:
    """Completes a prompt with itself, when it is let."""

    context_length: int = 100
    batches: list[tuple[str, list[str]]] = field(default_factory=list)
    seconds: float = 0.0
    go: threading.Event = field(default_factory=threading.Event)

    def generate(
        self, jobs: Sequence[Job], adapter: Adapter | None, pause: Callable[[], None] | None = None
    ) -> list[Completion]:
        self.batches.append((adapter.name if adapter else "base", [job.prompt for job in jobs]))
        if pause is None:
            time.sleep(self.seconds)
            self.go.wait(5)
        else:
            while not self.go.wait(0.005):
                pause()
        if any(job.prompt == "broken" for job in jobs):
            raise RuntimeError("out of memory")
        return [Completion(job.prompt, 1, 1, job.gone() or "stop") for job in jobs]


@pytest.fixture
def engine() -> EchoEngine:
    engine = EchoEngine()
    engine.go.set()
    return engine


@pytest.fixture
async def batcher(engine: EchoEngine) -> AsyncIterator[Batcher]:
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher(engine, executor, max_batch=4, window_seconds=0.02)  # type: ignore[arg-type]
        running = asyncio.create_task(batcher.run())
        yield batcher
        running.cancel()
        engine.go.set()


async def begun(engine: EchoEngine) -> None:
    """Waits until the engine has a batch; it works in a thread of its own."""
    async with asyncio.timeout(60):
        while not engine.batches:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_single_jobs_of_one_adapter_share_a_batch(batcher: Batcher, engine: EchoEngine) -> None:
    a, b = Adapter("a"), Adapter("b")
    jobs = [("1", a), ("2", a), ("3", b), ("4", a), ("5", a), ("6", a), ("7", None)]
    answers = await asyncio.gather(*(batcher.complete(Job(prompt), adapter) for prompt, adapter in jobs))
    assert [answer.text for answer in answers] == [prompt for prompt, _ in jobs]
    assert engine.batches == [("a", ["1", "2", "4", "5"]), ("b", ["3"]), ("a", ["6"]), ("base", ["7"])]


async def test_a_group_is_never_mixed_and_takes_turns_with_single_jobs(batcher: Batcher, engine: EchoEngine) -> None:
    groups = [batcher.complete_group([Job(f"{g}{i}") for i in range(3)], None) for g in "xy"]
    results = await asyncio.gather(*groups, batcher.complete(Job("s"), None))
    assert [c.text for c in results[0]] == ["x0", "x1", "x2"]
    batches = [prompts for _, prompts in engine.batches]
    assert sorted(batches) == [["s"], ["x0", "x1", "x2"], ["y0", "y1", "y2"]]
    assert batches.index(["s"]) < 2, "a lone question does not wait for all groups"


async def test_a_failure_of_the_engine_reaches_its_callers_only(batcher: Batcher) -> None:
    with pytest.raises(RuntimeError):
        await batcher.complete(Job("broken"), None)
    assert (await batcher.complete(Job("fine"), None)).text == "fine"


async def test_jobs_that_nobody_waits_for_are_not_begun(batcher: Batcher, engine: EchoEngine) -> None:
    engine.go.clear()
    running = asyncio.create_task(batcher.complete(Job("first"), None))
    await begun(engine)
    waiting = asyncio.create_task(batcher.complete(Job("second"), None))
    late = asyncio.create_task(batcher.complete(Job("third", deadline=time.monotonic() + 0.05), None))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(DeadlineExceeded):
        await late
    engine.go.set()
    assert (await running).text == "first"
    assert (await batcher.complete(Job("last"), None)).text == "last"
    assert [prompts for _, prompts in engine.batches] == [["first"], ["last"]]


async def test_a_cancelled_caller_ends_its_decoding(batcher: Batcher, engine: EchoEngine) -> None:
    engine.go.clear()
    job = Job("long")
    running = asyncio.create_task(batcher.complete(job, None))
    await begun(engine)
    running.cancel()
    await asyncio.sleep(0)
    assert job.gone() == "cancelled"


async def written_meanwhile(batcher: Batcher, engine: EchoEngine) -> asyncio.Task:
    """A group that is written until `engine.go` is set."""
    engine.go.clear()
    group = asyncio.create_task(batcher.complete_group([Job("x0"), Job("x1")], Adapter("x")))
    await begun(engine)
    return group


async def test_a_group_that_is_written_makes_way_for_questions(batcher: Batcher, engine: EchoEngine) -> None:
    group = await written_meanwhile(batcher, engine)
    engine.generate = Questions(engine)  # type: ignore[method-assign]
    a, b = Adapter("a"), Adapter("b")
    asked = [("1", a), ("2", a), ("3", b), ("broken", b), ("4", None)]
    answers = await asyncio.wait_for(
        asyncio.gather(*(batcher.complete(Job(q), adapter) for q, adapter in asked), return_exceptions=True), 60
    )
    assert [getattr(answer, "text", "failed") for answer in answers] == ["1", "2", "failed", "failed", "4"]
    assert not group.done()
    assert [prompts for _, prompts in engine.batches] == [["x0", "x1"], ["1", "2"], ["3", "broken"], ["4"]]
    engine.go.set()
    assert [completion.text for completion in await group] == ["x0", "x1"]


async def test_a_group_gets_half_of_the_time_however_many_questions_come(batcher: Batcher, engine: EchoEngine) -> None:
    group = await written_meanwhile(batcher, engine)
    engine.generate = Questions(engine)  # type: ignore[method-assign]
    engine.seconds = 0.05
    began = time.monotonic()

    async def ask_on() -> None:
        for _ in range(10):
            await batcher.complete(Job("q"), None)

    await asyncio.wait_for(asyncio.gather(ask_on(), ask_on(), ask_on()), 60)
    # All but the last batch of questions gave the group as long as they took themselves.
    assert time.monotonic() - began >= engine.seconds * (2 * (len(engine.batches) - 1) - 1)
    engine.go.set()
    await group


async def test_a_question_is_answered_beside_a_group_though_the_event_loop_is_busy(
    batcher: Batcher, engine: EchoEngine
) -> None:
    group = await written_meanwhile(batcher, engine)
    engine.generate = Questions(engine)  # type: ignore[method-assign]
    question = asyncio.create_task(batcher.complete(Job("q"), None))
    await asyncio.sleep(0)
    time.sleep(1.5)  # noqa: ASYNC251  # longer than anybody may wait for the loop
    engine.go.set()
    assert (await asyncio.wait_for(question, 60)).text == "q"
    assert [prompts for _, prompts in engine.batches] == [["x0", "x1"], ["q"]]
    await group


async def test_a_question_that_nobody_waits_for_any_more_does_not_stop_a_group(
    batcher: Batcher, engine: EchoEngine
) -> None:
    group = await written_meanwhile(batcher, engine)
    gone = asyncio.create_task(batcher.complete(Job("gone"), None))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0.1)
    assert len(engine.batches) == 1
    engine.go.set()
    await group


class Questions:
    """From now on the engine answers at once, but for the group that is being written."""

    def __init__(self, engine: EchoEngine) -> None:
        self._engine = engine

    def __call__(self, jobs: Sequence[Job], adapter: Adapter | None, pause: object = None) -> list[Completion]:
        self._engine.batches.append((adapter.name if adapter else "base", [job.prompt for job in jobs]))
        time.sleep(self._engine.seconds)
        if any(job.prompt == "broken" for job in jobs):
            raise RuntimeError("out of memory")
        return [Completion(job.prompt, 1, 1, job.gone() or "stop") for job in jobs]
