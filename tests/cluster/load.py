"""A constant load on all services, inside the cluster, as clients of ours call them: with retries, spread over all pods of a name.

    python load.py nesycd knowledgeBases/kept 20

It calls until the file /tmp/stop appears, and prints the sums of each method as JSON then. A call is started when its time has come, whether or not the
ones before have ended.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from nesycd.extraction.v1 import ExtractionOptions, ExtractionServiceStub, ExtractKnowledgeRequest, HardCase
from nesycd.knowledge.v1 import GetKnowledgeBaseRequest, KnowledgeServiceStub, SearchEntriesRequest
from nesycd.runs.v1 import ListRunsRequest, RunServiceStub
from nesycd.student.v1 import AnswerRequest, Decoding, ListAdaptersRequest, Retrieval, StudentServiceStub
from nesycd.teacher.v1 import GenerateRequest, Message, Sampling, TeacherServiceStub

from services.common.channel import connect

STOP = Path("/tmp/stop")
Call = Callable[[], Awaitable[Any]]


def calls(channels: dict[str, grpc.aio.Channel], knowledge_base: str) -> list[tuple[str, Call]]:
    """A round of calls, by what each is told as."""
    teacher = TeacherServiceStub(channels["teacher"])
    knowledge = KnowledgeServiceStub(channels["knowledge"])
    extraction = ExtractionServiceStub(channels["extraction"])
    student = StudentServiceStub(channels["student"])
    runs = RunServiceStub(channels["runs"])
    question = "How many legs do 3 scorpions have?"
    generate = GenerateRequest(
        messages=[Message(role="user", content=f"Task: rationale\nAnswer the question.\n\nQuestion:\n{question}")],
        sampling=Sampling(temperature=0, max_tokens=200),
        caller="load",
    )
    search = SearchEntriesRequest(parent=knowledge_base, query=question, top_k=3)
    extract = ExtractKnowledgeRequest(
        hard_case=HardCase(
            case_id="load-1",
            task="legs",
            question="How many legs do 2 woodlice have?",
            gold_answer="28",
            student_response="Woodlice have 6 legs. 2 x 6 = 12. Therefore, the answer is 12.",
        ),
        options=ExtractionOptions(knowledge_base=knowledge_base),
    )
    answer = AnswerRequest(
        question=question,
        adapter="base",
        retrieval=Retrieval(knowledge_base=knowledge_base),
        decoding=Decoding(max_new_tokens=4),
    )
    often: list[tuple[str, Call]] = [
        ("teacher", lambda: teacher.Generate(generate, timeout=60)),
        ("knowledge", lambda: knowledge.SearchEntries(search, timeout=60)),
        ("runs", lambda: runs.ListRuns(ListRunsRequest(page_size=5), timeout=60)),
        ("student", lambda: student.ListAdapters(ListAdaptersRequest(), timeout=60)),
        ("knowledge", lambda: knowledge.GetKnowledgeBase(GetKnowledgeBaseRequest(name=knowledge_base), timeout=60)),
    ]
    # These compute, or ask other services: once in three seconds.
    seldom: list[tuple[str, Call]] = [
        ("extraction", lambda: extraction.ExtractKnowledge(extract, timeout=60)),
        ("student answers", lambda: student.Answer(answer, timeout=60)),
    ]
    return often * 12 + seldom


async def main(release: str, knowledge_base: str, rate: float) -> None:
    """Calls until it is told to stop."""
    ports = {"teacher": 50061, "knowledge": 50062, "extraction": 50063, "student": 50064, "runs": 50065}
    channels = {name: connect(f"dns:///{release}-{name}:{port}") for name, port in ports.items()}
    ended: Counter[str] = Counter()
    failures: list[str] = []
    slowest = 0.0

    async def one(name: str, call: Call) -> None:
        nonlocal slowest
        began = time.monotonic()
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            failures.append(f"{time.strftime('%H:%M:%S')} {name}: {error.code().name} {error.details()}")
            print(failures[-1], flush=True)
        else:
            ended[name] += 1
        slowest = max(slowest, time.monotonic() - began)

    # A network that enforces policies lets this pod through once it has heard of it.
    await asyncio.gather(*(channel.channel_ready() for channel in channels.values()))
    round_of_calls = itertools.cycle(calls(channels, knowledge_base))
    running: set[asyncio.Task[None]] = set()
    began = due = time.monotonic()
    print("calling", flush=True)
    while not STOP.exists():  # noqa: ASYNC240 - a file of this machine
        task = asyncio.create_task(one(*next(round_of_calls)))
        running.add(task)
        task.add_done_callback(running.discard)
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    seconds = time.monotonic() - began
    await asyncio.gather(*running)
    total = ended.total() + len(failures)
    print(
        json.dumps(
            {
                "calls": total,
                "rate": round(total / seconds, 1),
                "slowest": round(slowest, 1),
                "ended": ended,
                "failures": failures,
            }
        )
    )
    for channel in channels.values():
        await channel.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
