"""BatchAnswer's stream: what is begun for a caller that goes away, and for one whose stream breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from nesycd.student.v1 import AnswerRequest, BatchAnswerRequest

from services.student.answering import Answer
from services.student.questions import Question
from services.student.servicer import Core, StudentServicer
from services.student.writing import Written


class Answering:
    """Answers groups when it is let."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.groups: list[list[str]] = []

    async def answer_group(self, questions: Sequence[Question]) -> list[Answer]:
        self.groups.append([question.question for question in questions])
        await self.go.wait()
        return [Answer(Written("", q.question, q.question, 1, 1, False), (), 0, "", 0) for q in questions]


@pytest.fixture
async def answering() -> Answering:
    return Answering()


@pytest.fixture
def servicer(answering: Answering) -> StudentServicer:
    core = Core(max_batch=2)
    core.answering = answering  # type: ignore[assignment]
    return StudentServicer(core)


async def rows(count: int, broken: bool = False) -> AsyncIterator[BatchAnswerRequest]:
    for i in range(count):
        yield BatchAnswerRequest(row_id=str(i), request=AnswerRequest(question=f"q{i}"))
    if broken:
        raise ConnectionError("the stream broke")


async def read_all(servicer: StudentServicer, sent: AsyncIterator[BatchAnswerRequest], got: list[str]) -> None:
    context: Any = None
    async for response in servicer.BatchAnswer(sent, context):
        got.append(f"{response.row_id} {response.response.answer}")


async def test_a_batch_that_is_cancelled_leaves_nothing_running(
    servicer: StudentServicer, answering: Answering
) -> None:
    before = asyncio.all_tasks()
    reading = asyncio.create_task(read_all(servicer, rows(50), []))
    await asyncio.sleep(0.05)
    assert answering.groups == [["q0", "q1"], ["q2", "q3"]], "one is answered, one is prepared"
    reading.cancel()
    await asyncio.wait([reading])
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() <= before


async def test_a_batch_is_answered_in_order_up_to_where_its_stream_broke(
    servicer: StudentServicer, answering: Answering
) -> None:
    answering.go.set()
    got: list[str] = []
    with pytest.raises(ConnectionError):
        await read_all(servicer, rows(5, broken=True), got)
    assert got == [f"{i} q{i}" for i in range(5)]
    assert answering.groups == [["q0", "q1"], ["q2", "q3"], ["q4"]]
