"""Many questions to the teacher or the student, journaled: after a kill only what has no answer yet is asked again."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from google.protobuf import json_format, struct_pb2
from nesycd.student.v1 import AnswerRequest, BatchAnswerRequest
from nesycd.teacher.v1 import BatchGenerateRequest, GenerateRequest, GenerateResponse, Message, ResponseFormat, Sampling

from jobs.artifacts import read_jsonl
from jobs.clients import row_error
from jobs.context import Context
from jobs.rows import DataRow, from_record
from method import prompts
from method.scoring import is_correct
from services.common.errors import NesycdError

TEACHER_SHARD = 32
STUDENT_CHUNK = 48
"""Rows that the student is asked together. Fixed and aligned: which rows share a batch decides the last bits of an answer."""
_AT_TIMES = frozenset(
    ("sample", "error", "confidence", "gated", "own_entries", "original_answer", "original_entry", "edited_entry", "edited_name")
)  # fmt: skip
"""Fields that only some records have: where one has not, an attribute of that name would stand for it."""
_FEW_CUT_OFF = 0.03
"""Up to this share of answers that were cut off a note does not tell it: some students talk on at any length."""
_USAGE_SECONDS = 5.0
_STRETCH = 128
"""Shards that are asked for in one stream: their requests are in memory together."""


def rows_of(context: Context, name: str) -> list[DataRow]:
    """The rows of a file that stage prepare wrote ("train.jsonl", "test.jsonl")."""
    return [from_record(record) for record in read_jsonl(context.inputs["prepare"].read(name))]


def teacher_request(
    context: Context,
    messages: Sequence[Mapping[str, str]],
    *,
    caller: str,
    sample: int = 0,
    schema: Mapping[str, Any] | None = None,
) -> GenerateRequest:
    """A request that is charged to the run, sampled as its spec says.

    Args:
        context: The stage.
        messages: From `method.prompts`.
        caller: Who asks, for the sums.
        sample: Which sample of the same request.
        schema: JSON schema of the answer; None: free text.
    """
    teacher = context.spec.teacher
    request = GenerateRequest(
        messages=[Message(role=m["role"], content=m["content"]) for m in messages],
        model=teacher.model,
        sampling=Sampling(
            temperature=teacher.temperature, top_p=1.0, max_tokens=teacher.max_tokens, seed=context.spec.seed
        ),
        sample=sample,
        run=context.run_name,
        caller=caller,
        run_budget_usd=teacher.budget_usd,
    )
    if schema is not None:
        structure = json_format.ParseDict(dict(schema), struct_pb2.Struct())
        request.response_format.CopyFrom(ResponseFormat(json_schema=structure, name=caller))
    return request


async def ask_teacher(
    context: Context, journal: str, ids: Sequence[str], request: Callable[[str, int], GenerateRequest],
    read: Callable[[str, GenerateResponse | NesycdError, int], tuple[dict[str, Any], bool]], *, samples: int = 1,
    first: int = 0, total: int | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Asks the teacher about many rows.

    Args:
        context: The stage.
        journal: Name of the journal.
        ids: The rows.
        request: The request of (row id, sample).
        read: Makes a record of (row id, answer or the row's error, sample), and says whether it is good; a row whose record
            is not is asked again, until there are no samples left.
        samples: Samples of a row at most.
        first: Rows that count as done already, for the progress.
        total: Rows in all, for the progress.

    Returns:
        One record a row, in order.
    """
    shards = context.folder.journal(journal, TEACHER_SHARD)
    concurrency = context.spec.teacher.concurrency
    done, saved, told = first, 0, time.monotonic()
    total = first + len(ids) if total is None else total
    open_shards: list[tuple[int, list[str]]] = []
    for number, indices in shards.shards(len(ids)):
        if shards.get(number) is None:
            open_shards.append((number, [ids[i] for i in indices]))
        else:
            done += len(indices)
            saved += 1
    context.progress(done, total, force=True)

    async def put(number: int, records: list[dict[str, Any]]) -> None:
        nonlocal saved, told
        # In a thread: until it is on the disk, answers would wait, and slots of the teacher with them.
        await asyncio.to_thread(shards.put, number, records)
        saved += 1
        context.progress(done, total, saved=first + saved)
        if time.monotonic() - told > _USAGE_SECONDS:
            told = time.monotonic()
            await context.usage()

    async def stretch(part: Sequence[tuple[int, list[str]]], window: int) -> None:
        shard_of = {row_id: number for number, shard in part for row_id in shard}
        waiting = {number: len(shard) for number, shard in part}
        order = dict(part)
        records: dict[str, dict[str, Any]] = {}
        missing, again = list(shard_of), []
        writing: list[asyncio.Task[None]] = []

        def came(sample: int, message: Any) -> None:
            nonlocal done
            row_id = message.row_id
            if sample == 0:
                done += 1
                context.progress(done, total)
            records[row_id], good = read(row_id, row_error(message) or message.response, sample)
            if not good and sample + 1 < samples:
                again.append(row_id)
                return
            number = shard_of[row_id]
            waiting[number] -= 1
            if not waiting[number]:
                for task in [task for task in writing if task.done()]:
                    writing.remove(task)
                    task.result()  # what cannot be written is not asked for any longer
                writing.append(asyncio.create_task(put(number, [records.pop(i) for i in order[number]])))

        try:
            for sample in range(samples):
                messages = {i: BatchGenerateRequest(row_id=i, request=request(i, sample)) for i in missing}
                await context.services.batch(
                    context.services.teacher.BatchGenerate, messages, what="teacher", window=window,
                    on_result=partial(came, sample),
                )  # fmt: skip
                missing, again = again, []
                if not missing:
                    break
        finally:
            if writing:
                await asyncio.wait(writing)
        for task in writing:
            task.result()

    async def lane(part: Sequence[tuple[int, list[str]]], window: int) -> None:
        for start in range(0, len(part), _STRETCH):
            await stretch(part[start : start + _STRETCH], window)

    # A lane asks for row after row, so that its slots are always in use; several lanes may reach several proxies.
    lanes = max(min(2, concurrency), math.ceil(concurrency / TEACHER_SHARD))
    windows = [concurrency // lanes + (number < concurrency % lanes) for number in range(lanes)]
    await in_parallel([partial(lane, open_shards[n::lanes], window) for n, window in enumerate(windows)], lanes)
    return shards.all(len(ids))


async def ask_student(
    context: Context, journal: str, rows: Sequence[DataRow], request: Callable[[int], AnswerRequest], *,
    gold: Callable[[int], str] | None = None, extra: Callable[[int], dict[str, Any]] = lambda index: {},
    first: int = 0, total: int | None = None, note: str = "",
) -> list[dict[str, Any]]:  # fmt: skip
    """Asks the student many questions, in chunks whose rows depend on their order only.

    Args:
        context: The stage.
        journal: Name of the journal.
        rows: The rows, in order.
        request: The request for the row at an index.
        gold: The answer that counts as right, where it is not the row's own.
        extra: Further fields of the record.
        first: Rows that count as done already, for the progress.
        total: Rows in all, for the progress.
        note: For people.

    Returns:
        One record a row, in order: id, task, question, gold, answer, text, correct, entries, tokens, truncated, and the row's
        attributes but those that are named as a field of the record is.
    """
    chunks = context.folder.journal(journal, STUDENT_CHUNK)
    total = first + len(rows) if total is None else total
    done = first
    for number, indices in chunks.shards(len(rows)):
        context.check()
        if chunks.get(number) is not None:
            done += len(indices)
            context.progress(done, total, note=note)
            continue
        messages = {str(i): BatchAnswerRequest(row_id=str(i), request=request(i)) for i in indices}
        began = time.monotonic()
        results = await context.services.batch(
            context.services.student.BatchAnswer, messages, what="student", whole=True
        )
        seconds = time.monotonic() - began
        records = []
        for i in indices:
            row = rows[i].row
            expected = gold(i) if gold else row.answer
            records.append(
                {
                    **{name: value for name, value in rows[i].attributes.items() if name not in _AT_TIMES},
                    **_answer(results[str(i)], row, expected),
                    **extra(i),
                    "seconds": round(seconds / len(indices), 4),
                }
            )
        chunks.put(number, records)
        done += len(indices)
        context.progress(done, total, note=note, saved=done)
    return chunks.all(len(rows))


def _answer(result: Any, row: prompts.Row, expected: str) -> dict[str, Any]:
    record: dict[str, Any] = {"id": row.id, "task": row.task, "question": row.question, "gold": expected}
    error = row_error(result)
    if error is not None:
        # A question longer than the context is the row's own fault, and a wrong answer; all else is no answer at all.
        if error.reason != "QUESTION_TOO_LONG":
            raise error
        return record | {
            "answer": None, "text": "", "correct": False, "entries": [], "prompt_tokens": 0, "completion_tokens": 0,
            "truncated": False, "error": {"reason": error.reason, "message": error.message},
        }  # fmt: skip
    said = result.response
    answer = said.answer or None
    if said.confidence or said.gated:
        record |= {"confidence": round(said.confidence, 4), "gated": said.gated}
    return record | {
        "answer": answer,
        "text": said.text,
        "correct": is_correct(answer, expected, question=row.question),
        "entries": [{"name": e.name, "text": e.text} for e in said.entries],
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.completion_tokens,
        "truncated": said.truncated,
    }


def cut_off(shares: Mapping[str, float], most: int) -> str:
    """What a stage's note says of answers that were cut off; "" where they are few.

    Args:
        shares: The share of such answers, by what was asked.
        most: `evaluate.max_new_tokens`.
    """
    many = [f"{share:.0%} of {what}" for what, share in shares.items() if share > _FEW_CUT_OFF]
    return f"cut off at evaluate.max_new_tokens = {most}: {', '.join(many)}; raise it" if many else ""


async def in_parallel(work: Iterable[Callable[[], Awaitable[None]]], limit: int) -> None:
    """Runs pieces of work, so many at once; the first failure stops the others and is raised as it is."""
    waiting = list(work)
    running: set[asyncio.Task[None]] = set()
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
            finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


def read_json_answer(text: str) -> dict[str, Any] | None:
    """The JSON object of a structured answer, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def shuffled(items: Iterable[Any], seed: int, what: str) -> list[Any]:
    """The items in an order that the seed decides, another one for each purpose."""
    order = list(items)
    random.Random(f"{what}:{seed}").shuffle(order)
    return order
