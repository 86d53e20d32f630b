"""The proxy as a process, with a real Valkey, and a teacher with faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
import redis.asyncio as redis
from aiohttp import web
from google.protobuf.struct_pb2 import Struct
from nesycd.teacher.v1 import (
    BatchGenerateRequest,
    FinishReason,
    GenerateRequest,
    GenerateResponse,
    GenerateStreamRequest,
    GetUsageRequest,
    Message,
    ResponseFormat,
    Sampling,
    TeacherServiceStub,
)

from method.prompts import Row, rationale_messages
from services.common import errors
from services.teacher.proxy import Proxy
from services.teacher.settings import Settings
from services.teacher.store import Store
from services.teacher.types import Answer, Completion, Finish, Question, Spent
from services.teacher.types import Message as Said
from services.teacher.types import Sampling as Sampled
from tests.component.teacher.conftest import (
    KEY,
    PROMPT,
    ROOT,
    ProxyProcess,
    Teacher,
    ask,
    completion,
    refusal,
)
from tests.processes import Process, free_port, running, standin

MakeProxy = Callable[..., ProxyProcess]


async def failure(call: Any) -> errors.NesycdError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = errors.from_rpc_error(caught.value)
    assert PROMPT not in error.message
    assert KEY not in error.message
    return error


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def json_format() -> ResponseFormat:
    schema = Struct()
    schema.update(
        {
            "type": "object",
            "properties": {"facts": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
            "required": ["facts"],
        }
    )
    return ResponseFormat(json_schema=schema, name="knowledge")


async def test_an_answer_comes_with_all_that_made_it(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy().start()
    teacher.next.append(completion("so it is", reasoning_content="because"))
    first = await stub.Generate(ask(sampling=Sampling(temperature=0.5, stop=["b", "a"]), run="runs/r", caller="test"))
    assert (first.text, first.reasoning, first.model) == ("so it is", "because", "teacher-1")
    assert first.finish_reason == FinishReason.FINISH_REASON_STOP
    assert not first.cached
    assert first.attempts == 1
    assert first.usage.cost_usd == pytest.approx((100 * 10 + 50 * 20) / 1e6)
    sent = teacher.bodies[0]
    effective = first.effective_sampling
    assert (effective.temperature, effective.top_p, effective.max_tokens, list(effective.stop)) == (
        0.5,
        1,
        1024,
        ["a", "b"],
    )
    assert effective.seed == sent["seed"]
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["stop"]) == (0.5, 1, 1024, ["a", "b"])
    assert teacher.keys == [f"Bearer {KEY}"]

    second = await stub.Generate(ask(sampling=Sampling(temperature=0.5, stop=["a", "b"]), run="runs/other"))
    assert second.cached
    assert second.attempts == 0
    second.cached, second.attempts = first.cached, first.attempts
    assert second == first
    assert len(teacher.bodies) == 1


async def test_another_sample_is_another_answer_and_skip_cache_asks_again(
    make_proxy: MakeProxy, teacher: Teacher
) -> None:
    stub = await make_proxy().start()
    zero = await stub.Generate(ask())
    one = await stub.Generate(ask(sample=1))
    assert zero.call != one.call
    assert zero.effective_sampling.seed != one.effective_sampling.seed
    again = await stub.Generate(ask(skip_cache=True))
    assert again.text == "answer 3"
    assert (await stub.Generate(ask())).text == "answer 3"


async def test_equal_requests_at_once_pay_once_also_across_replicas(make_proxy: MakeProxy, teacher: Teacher) -> None:
    teacher.latency = 4  # longer than the lease: it must be renewed
    stubs = [await make_proxy(lease_seconds=3).start(), await make_proxy(lease_seconds=3).start()]
    answers = await asyncio.gather(*(stubs[i % 2].Generate(ask(caller="c")) for i in range(10)))
    assert len(teacher.bodies) == 1
    assert {answer.text for answer in answers} == {"answer 1"}
    assert sorted(answer.cached for answer in answers) == [False] + [True] * 9
    usage = await stubs[0].GetUsage(GetUsageRequest(caller="c"))
    assert [(row.calls, row.cached_calls) for row in usage.rows] == [(1, 9)]


async def test_a_killed_proxy_has_lost_nothing_that_was_answered(
    make_proxy: MakeProxy, teacher: Teacher, valkey: Process
) -> None:
    proxy = make_proxy()
    stub = await proxy.start()
    await asyncio.gather(*(stub.Generate(ask(f"question {i}", run="runs/r")) for i in range(8)))
    proxy.kill()
    valkey.kill()
    valkey.start()
    stub = await proxy.start()
    answers = await asyncio.gather(*(stub.Generate(ask(f"question {i}", run="runs/r")) for i in range(8)))
    assert all(answer.cached for answer in answers)
    assert len(teacher.bodies) == 8
    (row,) = (await stub.GetUsage(GetUsageRequest(run="runs/r"))).rows
    assert (row.calls, row.cached_calls, row.usage.prompt_tokens) == (8, 8, 800)


async def test_a_proxy_killed_while_it_asks_frees_the_question(make_proxy: MakeProxy, teacher: Teacher) -> None:
    proxy = make_proxy()
    stub = await proxy.start()
    teacher.latency = 5
    call = asyncio.ensure_future(stub.Generate(ask()))
    await teacher.asked.wait()
    proxy.kill()
    await asyncio.gather(call, return_exceptions=True)
    teacher.latency = 0
    stub = await proxy.start()
    assert (await stub.Generate(ask(), timeout=60)).text == "answer 2"


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_honoured(make_proxy: MakeProxy, teacher: Teacher, as_date: bool) -> None:
    stub = await make_proxy().start()
    at = int(time.time()) + 3 if as_date else time.time() + 1
    teacher.next.append(refusal(429, "rate_limit_exceeded", formatdate(at, usegmt=True) if as_date else "1"))
    answer = await stub.Generate(ask())
    assert time.time() >= at
    assert answer.attempts == 2


async def test_a_retry_after_that_is_too_long_is_reported(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy(max_retry_after_seconds=2).start()
    teacher.next.append(refusal(429, "rate_limit_exceeded", "77"))
    error = await failure(stub.Generate(ask()))
    assert (error.code, error.reason, error.retry_after) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED, "TEACHER_RATE_LIMITED", 77,
    )  # fmt: skip


TROUBLE = [
    (refusal(401), "TEACHER_KEY_REFUSED", 1),
    (refusal(403), "TEACHER_KEY_REFUSED", 1),
    (refusal(404, "model_not_found"), "TEACHER_MODEL_NOT_FOUND", 1),
    (refusal(400, "context_length_exceeded"), "TEACHER_REJECTED_REQUEST", 1),
    (refusal(429, "insufficient_quota"), "TEACHER_QUOTA_EXHAUSTED", 1),
    (refusal(503), "TEACHER_UNAVAILABLE", 3),
    (refusal(429), "TEACHER_RATE_LIMITED", 3),
    (refusal(200), "TEACHER_BROKEN_RESPONSE", 3),
    (completion("half", finish="content_filter"), "TEACHER_REFUSED", 1),
    (completion("", refusal="I do not want to"), "TEACHER_REFUSED", 1),
    (completion(" "), "TEACHER_INVALID_ANSWER", 3),
    (completion("what", finish="tool_calls"), "TEACHER_BROKEN_RESPONSE", 3),
]


async def test_every_trouble_has_its_reason_and_is_not_stored(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy(max_attempts=3).start()
    for number, (reply, reason, asked) in enumerate(TROUBLE):
        before = len(teacher.bodies)
        for _ in range(asked):  # a response can be sent once only
            teacher.next.append(web.Response(body=reply.body, status=reply.status, content_type="application/json"))
        question = f"{PROMPT} {number}"
        error = await failure(stub.Generate(ask(question)))
        assert (number, error.reason) == (number, reason)
        assert error.code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        assert (reason, len(teacher.bodies) - before) == (reason, asked)
        assert not (await stub.Generate(ask(question))).cached


async def test_a_cut_off_answer_is_asked_again_once_with_more_room(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy().start()
    teacher.next.append(completion("half an", finish="length"))
    answer = await stub.Generate(ask(sampling=Sampling(max_tokens=10), run="runs/r"))
    assert [body["max_tokens"] for body in teacher.bodies] == [10, 20]
    assert answer.effective_sampling.max_tokens == 20
    teacher.next.extend([completion("half", finish="length"), completion("half an", finish="length")])
    error = await failure(stub.Generate(ask("other", sampling=Sampling(max_tokens=10), run="runs/r")))
    assert error.reason == "TEACHER_TRUNCATED"
    assert error.metadata["max_tokens"] == "20"
    (row,) = (await stub.GetUsage(GetUsageRequest(run="runs/r"))).rows
    assert (row.calls, row.failed_attempts, row.usage.completion_tokens) == (1, 3, 200)


async def test_only_json_that_holds_the_schema_is_an_answer(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy().start()
    teacher.next.extend(
        [completion('{"facts": ['), completion('{"facts": []}'), completion('```json\n{"facts": ["a"]}\n```')]
    )
    answer = await stub.Generate(ask(response_format=json_format()))
    assert answer.text == '{"facts": ["a"]}'
    assert answer.attempts == 3
    assert len({body["seed"] for body in teacher.bodies}) == 3
    assert teacher.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["facts"]["minItems"] == 1
    assert (await stub.Generate(ask(response_format=json_format()))).cached
    teacher.next.extend(completion('{"facts": "a"}') for _ in range(3))
    error = await failure(stub.Generate(ask(response_format=json_format(), sample=1)))
    assert error.reason == "TEACHER_INVALID_ANSWER"


async def test_without_redis_nothing_is_paid(make_proxy: MakeProxy, teacher: Teacher, valkey: Process) -> None:
    stub = await make_proxy().start()
    valkey.kill()
    error = await failure(stub.Generate(ask()))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "CACHE_UNAVAILABLE")
    assert error.retry_after
    assert not teacher.bodies
    valkey.start()
    assert (await stub.Generate(ask())).text == "answer 1"


async def test_an_answer_that_comes_while_redis_is_away_is_kept(
    make_proxy: MakeProxy, teacher: Teacher, valkey: Process
) -> None:
    stub = await make_proxy().start()
    teacher.latency = 1
    call = asyncio.ensure_future(stub.Generate(ask(run="runs/r")))
    await teacher.asked.wait()
    valkey.kill()
    await asyncio.sleep(2)
    assert not call.done()
    valkey.start()
    assert (await asyncio.wait_for(call, 60)).text == "answer 1"
    assert (await stub.Generate(ask())).cached
    usage = await stub.GetUsage(GetUsageRequest(run="runs/r"))
    assert [(row.calls, row.usage.completion_tokens) for row in usage.rows] == [(1, 50)]


async def test_a_client_that_gives_up_does_not_lose_a_paid_answer(make_proxy: MakeProxy, teacher: Teacher) -> None:
    proxy = make_proxy()
    stub = await proxy.start()
    teacher.may_answer.clear()
    call = stub.Generate(ask())
    await teacher.asked.wait()
    call.cancel()
    error = await failure(stub.Generate(ask("another"), timeout=2))
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    stopping = asyncio.ensure_future(proxy.terminate())  # and neither does a proxy that is told to stop
    await asyncio.sleep(0.3)
    teacher.may_answer.set()
    assert await stopping == 0
    stub = await proxy.start()
    assert (await stub.Generate(ask())).cached
    assert (await stub.Generate(ask("another"))).cached
    assert len(teacher.bodies) == 2


async def test_a_client_that_gives_up_before_the_teacher_is_asked_costs_nothing(
    make_proxy: MakeProxy, teacher: Teacher
) -> None:
    port = free_port()
    stub = await make_proxy(slots=1, metrics_port=port).start()
    teacher.may_answer.clear()
    first = asyncio.ensure_future(stub.Generate(ask("first")))
    await teacher.asked.wait()
    second = stub.Generate(ask("waits for the slot"))
    await until_there_are(port, sent=1, waiting=1)
    second.cancel()
    await until_there_are(port, sent=1, waiting=0)
    teacher.may_answer.set()
    await first
    await asyncio.sleep(0.3)
    assert len(teacher.bodies) == 1


async def test_a_run_stops_at_its_budget_and_other_runs_go_on(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy().start()
    # An answer costs 0.002 and may cost 100 * 20 / 1e6 and a little for the prompt.
    budget = {"run": "runs/poor", "run_budget_usd": 0.011, "sampling": Sampling(max_tokens=100)}
    calls = await asyncio.gather(*(stub.Generate(ask(f"q{i}", **budget)) for i in range(10)), return_exceptions=True)
    reasons = [errors.from_rpc_error(call).reason for call in calls if isinstance(call, grpc.aio.AioRpcError)]
    assert reasons == ["BUDGET_EXHAUSTED"] * 5
    spent = (await stub.GetUsage(GetUsageRequest(run="runs/poor"))).total.cost_usd
    assert spent == pytest.approx(0.010)
    done = [i for i, call in enumerate(calls) if not isinstance(call, BaseException)]
    assert (await stub.Generate(ask(f"q{done[0]}", **budget))).cached
    await stub.Generate(ask("q11", run="runs/rich", run_budget_usd=1))
    error = await failure(stub.Generate(ask("q12", model="unpriced", run="runs/rich", run_budget_usd=1)))
    assert error.reason == "PRICE_UNKNOWN"


async def test_an_answer_that_was_lost_on_its_way_is_booked_at_the_most_that_it_may_have_cost(
    make_proxy: MakeProxy, teacher: Teacher, valkey: Process
) -> None:
    stub = await make_proxy(max_attempts=2, max_asks_again=0, request_timeout_seconds=1.5).start()
    room = Sampling(max_tokens=100)
    most = 100 * 20 / 1e6  # and ten dollars a million tokens for the prompt, whose tokens are guessed

    async def booked(run: str) -> tuple[int, float, int, float]:
        usage = await stub.GetUsage(GetUsageRequest(run=run))
        client = redis.Redis.from_url(f"redis://{valkey.address}/0", decode_responses=True)
        (name,) = await client.smembers(f"nesycd:teacher:usage:v1:rows:{run}")
        row = await client.hgetall(name)
        await client.aclose()
        failed = sum(row.failed_attempts for row in usage.rows)
        estimated = int(row.get("estimated_nano_usd", 0)) / 1e9
        return failed, usage.total.cost_usd, int(row.get("estimated_attempts", 0)), estimated

    teacher.may_answer.clear()
    error = await failure(stub.Generate(ask("late", run="runs/late", sampling=room)))
    assert error.reason == "TEACHER_UNAVAILABLE"
    failed, cost, attempts, estimated = await booked("runs/late")
    assert (failed, attempts) == (2, 2) and estimated == cost
    assert 2 * most < cost < 2.5 * most

    teacher.may_answer.set()
    await until(lambda: not teacher.now)  # else one that is late takes what is for the next
    teacher.next.append(refusal(200))
    assert (await failure(stub.Generate(ask("odd", run="runs/odd", sampling=room)))).reason == "TEACHER_BROKEN_RESPONSE"
    assert (await booked("runs/odd"))[::2] == (1, 1)

    teacher.next.append(completion("oneCUT"))
    await failure(streamed(stub, ask("one", run="runs/cut", sampling=room)))
    failed, cost, attempts, estimated = await booked("runs/cut")
    assert (failed, attempts) == (1, 1) and cost == pytest.approx(estimated + 0.002)


async def usage_of(stub: TeacherServiceStub, run: str) -> tuple[int, float]:
    """Failed attempts and cost, estimates included."""
    usage = await stub.GetUsage(GetUsageRequest(run=run))
    return sum(row.failed_attempts for row in usage.rows), usage.total.cost_usd


async def test_an_answer_that_a_proxy_was_stopped_before_is_booked_at_the_most_that_it_may_cost(
    make_proxy: MakeProxy, teacher: Teacher
) -> None:
    proxy = make_proxy(grace_seconds=0.5)
    stub = await proxy.start()
    teacher.latency = 30
    call = stub.Generate(ask(run="runs/r", sampling=Sampling(max_tokens=100)))
    await teacher.asked.wait()
    assert await proxy.terminate() == 0
    await failure(call)
    failed, cost = await usage_of(await proxy.start(), "runs/r")
    assert failed == 1 and 0.002 < cost < 0.0025


async def test_an_answer_that_a_proxy_was_killed_before_is_booked_once_and_holds_the_budget(
    make_proxy: MakeProxy, teacher: Teacher
) -> None:
    proxy = make_proxy(request_timeout_seconds=1)
    stub = await proxy.start()
    teacher.latency = 0.8
    # Room for one, and a little more for the prompt.
    budget = {"run": "runs/r", "run_budget_usd": 0.004, "sampling": Sampling(max_tokens=100)}
    call = stub.Generate(ask(**budget))
    await teacher.asked.wait()
    proxy.kill()
    await failure(call)
    stub = await proxy.start()
    # Its money is not given to another call, first because it may be under way, then because it is booked.
    assert (await failure(stub.Generate(ask("another", **budget)))).reason == "BUDGET_EXHAUSTED"
    for _ in range(2):
        failed, cost = await usage_of(stub, "runs/r")
        assert failed == 1 and 0.002 < cost < 0.0025
    assert len(teacher.bodies) == 1


@pytest.mark.parametrize("budget", [0, 1])
async def test_a_lost_call_is_told_with_the_usage_of_its_run_though_nobody_asks_any_more(
    make_proxy: MakeProxy, teacher: Teacher, valkey: Process, budget: float
) -> None:
    proxy = make_proxy()
    stub = await proxy.start()
    teacher.latency = 60
    call = stub.Generate(ask(run="runs/r", run_budget_usd=budget, sampling=Sampling(max_tokens=100)))
    await teacher.asked.wait()
    async with redis.Redis.from_url(f"redis://{valkey.address}/0", decode_responses=True) as known, asyncio.timeout(30):
        while not await known.exists("nesycd:teacher:sent:v1:runs/r"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        proxy.kill()
        await failure(call)
        stub = await proxy.start()
        assert await usage_of(stub, "runs/r") == (0, 0), "its answer may come still, as far as anybody knows"
        ((token, reservation),) = (await known.hgetall("nesycd:teacher:reserved:v2:runs/r")).items()
        cost, _, sent = reservation.split(" ")
        await known.hset("nesycd:teacher:reserved:v2:runs/r", token, f"{cost} 1 {sent}")  # its time is over
    assert [await usage_of(stub, "runs/r") for _ in range(2)] == [(1, pytest.approx(0.0024, rel=0.2))] * 2


async def test_an_answer_that_comes_after_its_call_was_taken_for_lost_is_kept_and_counted_once(valkey: Process) -> None:
    store = Store(f"redis://{valkey.address}/0", 1)
    sampling = Sampled(0.5, 1.0, 100)
    question = Question((Said("user", "hi"),), "m", sampling, run="runs/r", budget_usd=1.0)
    most, spent = Spent(10, 100, 1000), Spent(10, 50, 600)
    assert await store.reserve("k", question, "t", most, 10_000, -5, sent=True) == ("reserved", 0)
    await store.book_lost("runs/r")
    answer = Answer("text", "", "m", sampling, spent, "calls/k", 1)
    await store.book("k", question, "t", spent, answer)
    assert await store.open("k", question, "other") == answer.as_hit()
    (row,) = await store.rows("runs/r", "")
    assert (row.calls, row.failed_attempts, row.spent, row.estimated_nano_usd) == (0, 1, most, 1000)
    assert await store.reserve("k", question, "u", most, 2000, 5, sent=True) == ("reserved", 1000)
    await store.close()


async def test_calls_that_were_refused_at_their_turn_do_not_block_each_other(valkey: Process) -> None:
    store = Store(f"redis://{valkey.address}/0", 1)
    question = Question((Said("user", "hi"),), "m", Sampled(0.5, 1.0, 100), run="runs/r", budget_usd=1.0)

    async def reserve(token: str, sent: bool) -> str:
        return (await store.reserve("k", question, token, Spent(1, 1, 5), 20, 600, sent=sent))[0]

    assert [await reserve(token, False) for token in "dabc"] == ["reserved"] * 4
    assert [await reserve(token, True) for token in "da"] == ["reserved"] * 2
    # More than was thought, so that the others have to wait for what the second one leaves.
    await store.book("k", question, "d", Spent(1, 1, 11), None)
    assert [await reserve(token, True) for token in "bc"] == ["wait"] * 2
    await store.book("k", question, "a", Spent(1, 1, 3), None)
    assert [await reserve("b", sent) for sent in (False, True)] == ["reserved"] * 2
    assert await reserve("c", False) == "wait"
    await store.close()


async def test_reservations_are_forgotten_after_their_time_unless_one_was_sent(valkey: Process) -> None:
    store = Store(f"redis://{valkey.address}/0", 1)
    question = Question((Said("user", "hi"),), "m", Sampled(0.5, 1.0, 100), run="runs/r", budget_usd=1.0)
    async with redis.Redis.from_url(f"redis://{valkey.address}/0") as known:
        for sent in (False, True):
            await store.reserve("k", question, "t", Spent(1, 1, 5), 20, 600, sent=sent)
            expires = await known.ttl("nesycd:teacher:reserved:v2:runs/r")
            assert expires == -1 if sent else 600 < expires <= 1300
        await store.unreserve("runs/r", "t")
        assert not await known.exists("nesycd:teacher:reserved:v2:runs/r", "nesycd:teacher:sent:v1:runs/r")
    await store.close()


async def test_a_call_that_was_not_sent_as_redis_was_away_is_not_booked_as_lost(
    valkey: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"redis://{valkey.address}/0", 1)
    reserve, unreserve = store.reserve, store.unreserve
    away = [True, True]

    async def reserved_without_an_answer(*args: Any, sent: bool) -> Any:
        done = await reserve(*args, sent=sent)
        if sent:
            raise errors.Unavailable("away", reason="CACHE_UNAVAILABLE")
        return done

    async def not_given_back_yet(*args: Any) -> None:
        if away:
            away.pop()
            raise errors.Unavailable("away", reason="CACHE_UNAVAILABLE")
        await unreserve(*args)

    monkeypatch.setattr(store, "reserve", reserved_without_an_answer)
    monkeypatch.setattr(store, "unreserve", not_given_back_yet)
    proxy = Proxy(Settings(upstream_url="http://unused", prices={"*": (0, 10)}), backend=Unasked(), store=store)
    question = Question((Said("user", "hi"),), "m", Sampled(0.5, 1.0, 100), run="runs/r", budget_usd=1.0)
    with pytest.raises(errors.Unavailable):
        await proxy.generate(question)
    async with redis.Redis.from_url(f"redis://{valkey.address}/0") as known:
        assert await known.exists("nesycd:teacher:sent:v1:runs/r"), "nobody knows that it was not sent"
        async with asyncio.timeout(60):
            while await known.exists("nesycd:teacher:sent:v1:runs/r", "nesycd:teacher:reserved:v2:runs/r"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    await proxy.close(1)


class Unasked:
    """A teacher that must not be asked."""

    async def complete(self, question: Question, sampling: Sampled, on_text: object = None) -> Completion:
        raise AssertionError("the teacher was asked")

    async def close(self) -> None:
        pass


async def test_calls_that_wait_long_for_their_turn_do_not_overrun_a_budget(valkey: Process) -> None:
    sent: list[str] = []

    class Paid:
        async def complete(self, question: Question, sampling: Sampled, on_text: object = None) -> Completion:
            sent.append(question.messages[0].content)
            return Completion("answer", "", Finish.STOP, "m", 0, 100)

        async def close(self) -> None:
            pass

    settings = Settings(
        upstream_url="http://unused", prices={"*": (0, 10)}, requests_per_minute=30, request_timeout_seconds=0.1
    )
    proxy = Proxy(settings, Paid(), Store(f"redis://{valkey.address}/0", 1))
    # An answer costs 0.001: two are allowed, and reservations run out after a second, while one may go every two.
    asked = [
        Question((Said("user", f"q{i}"),), "m", Sampled(0.5, 1.0, 100), run="runs/r", budget_usd=0.002)
        for i in range(4)
    ]
    results = await asyncio.gather(*map(proxy.generate, asked), return_exceptions=True)
    assert len(sent) == 2
    assert [r.reason for r in results if isinstance(r, errors.NesycdError)] == ["BUDGET_EXHAUSTED"] * 2
    await proxy.close(1)


async def test_what_the_teacher_never_had_or_refused_costs_nothing_now_or_later(
    make_proxy: MakeProxy, teacher: Teacher, valkey: Process
) -> None:
    down = await make_proxy(upstream_url="http://127.0.0.1:9", max_attempts=2).start()
    assert (await failure(down.Generate(ask("a", run="runs/a")))).reason == "TEACHER_UNAVAILABLE"
    up = await make_proxy(max_attempts=2).start()
    teacher.next.extend([refusal(503), refusal(429)])
    await failure(up.Generate(ask("b", run="runs/b")))
    for run in ("runs/a", "runs/b"):
        usage = await up.GetUsage(GetUsageRequest(run=run))
        assert (usage.total.cost_usd, sum(row.failed_attempts for row in usage.rows)) == (0, 0)
    async with redis.Redis.from_url(f"redis://{valkey.address}/0") as known:
        assert not [key async for key in known.scan_iter("nesycd:teacher:sent:*")], "it would be booked as lost"


async def test_answers_that_are_lost_over_and_over_do_not_overrun_a_budget(
    make_proxy: MakeProxy, teacher: Teacher
) -> None:
    stub = await make_proxy(max_attempts=4, request_timeout_seconds=1).start()
    teacher.may_answer.clear()
    budget = {"run": "runs/poor", "run_budget_usd": 0.011, "sampling": Sampling(max_tokens=100)}
    calls = await asyncio.gather(*(failure(stub.Generate(ask(f"q{i}", **budget))) for i in range(4)))
    assert {error.reason for error in calls} <= {"BUDGET_EXHAUSTED", "TEACHER_UNAVAILABLE"}
    assert (await failure(stub.Generate(ask("one more", **budget)))).reason == "BUDGET_EXHAUSTED"
    assert len(teacher.bodies) == 5  # each may have cost a little more than 0.002
    assert (await stub.GetUsage(GetUsageRequest(run="runs/poor"))).total.cost_usd <= 0.011


async def test_different_default_teachers_are_told_apart_and_the_same_one_is_not(make_proxy: MakeProxy) -> None:
    async def stands_for(**settings: Any) -> str:
        stub = await make_proxy(**settings).start()
        usage = await stub.GetUsage(GetUsageRequest())
        assert "127.0.0.1" not in usage.default_teacher and KEY not in usage.default_teacher
        return usage.default_teacher

    first = await stands_for()
    same = await stands_for(upstream_api_key="another", prices="{}", slots=2)
    others = [
        await stands_for(default_model="teacher-2"), await stands_for(upstream_url="http://127.0.0.1:9"),
        await stands_for(backend="tgi"),
    ]  # fmt: skip
    assert first and first == same
    assert len({first, *others}) == 4


async def test_a_batch_gives_results_as_they_are_ready_and_errors_by_row(
    make_proxy: MakeProxy, teacher: Teacher
) -> None:
    stub = await make_proxy(batch_concurrency=4).start()
    teacher.latency = 0.05
    teacher.may_answer.clear()

    async def rows() -> AsyncIterator[BatchGenerateRequest]:
        for i in range(40):
            yield BatchGenerateRequest(row_id=str(i), request=ask(f"{PROMPT} {i}"))
        yield BatchGenerateRequest(row_id="bad", request=ask(sampling=Sampling(temperature=9)))
        yield BatchGenerateRequest(row_id="none")

    async def answers() -> dict[str, Any]:
        return {result.row_id: result async for result in stub.BatchGenerate(rows())}

    under_way = asyncio.ensure_future(answers())
    await until(lambda: teacher.now == 4)
    teacher.may_answer.set()
    results = await under_way
    assert len(results) == 42
    assert teacher.most == 4
    assert all(results[str(i)].response.text for i in range(40))
    assert results["bad"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "sampling.temperature" in results["bad"].error.message
    assert "messages" in results["none"].error.message


async def test_more_rows_at_once_than_connections_to_redis_are_no_trouble(
    make_proxy: MakeProxy, teacher: Teacher
) -> None:
    stub = await make_proxy(batch_concurrency=400, slots=100).start()

    async def rows() -> AsyncIterator[BatchGenerateRequest]:
        for i in range(400):
            yield BatchGenerateRequest(row_id=str(i), request=ask(f"question {i}"))

    results = [result async for result in stub.BatchGenerate(rows())]
    assert [result.error.message for result in results if result.HasField("error")] == []
    assert len(results) == len(teacher.bodies) == 400


async def test_a_batch_reader_that_is_slow_slows_the_work(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy(batch_concurrency=2).start()
    long = "x" * 300_000
    teacher.next.extend(completion(long) for _ in range(40))

    async def rows() -> AsyncIterator[BatchGenerateRequest]:
        for i in range(40):
            yield BatchGenerateRequest(row_id=str(i), request=ask(f"question {i}"))

    call = stub.BatchGenerate(rows())
    await call.read()
    await asyncio.sleep(1)
    assert len(teacher.bodies) < 30
    call.cancel()


async def test_a_batch_that_is_cancelled_stops_asking(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy(batch_concurrency=2).start()
    teacher.latency = 0.3

    async def rows() -> AsyncIterator[BatchGenerateRequest]:
        for i in range(40):
            yield BatchGenerateRequest(row_id=str(i), request=ask(f"question {i}"))

    call = stub.BatchGenerate(rows())
    await call.read()
    call.cancel()
    await asyncio.sleep(1)
    asked = len(teacher.bodies)
    await asyncio.sleep(0.7)
    assert len(teacher.bodies) == asked <= 6


async def test_a_damaged_stored_answer_is_said_and_can_be_replaced(
    make_proxy: MakeProxy, teacher: Teacher, valkey: Process
) -> None:
    stub = await make_proxy().start()
    answer = await stub.Generate(ask())
    async with redis.from_url(f"redis://{valkey.address}/0") as client:
        await client.set(f"nesycd:teacher:cache:v1:{answer.call.removeprefix('calls/')}", "{")
    assert (await failure(stub.Generate(ask()))).reason == "CACHE_DAMAGED"
    await stub.Generate(ask(skip_cache=True))
    assert (await stub.Generate(ask())).cached


async def streamed(stub: Any, request: GenerateRequest) -> tuple[list[str], GenerateResponse]:
    events = [event async for event in stub.GenerateStream(GenerateStreamRequest(request=request))]
    assert all(event.WhichOneof("event") == "chunk" for event in events[:-1])
    return [event.chunk for event in events[:-1]], events[-1].complete


async def test_a_stream_gives_pieces_as_they_are_written_and_is_stored(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy().start()
    text = "written piece by piece, Ünïcode too"
    teacher.next.append(completion(text, reasoning_content="because"))
    pieces, complete = await streamed(stub, ask(run="runs/r"))
    assert len(pieces) > 3
    assert "".join(pieces) == complete.text == text
    assert (complete.reasoning, complete.usage.completion_tokens, complete.cached) == ("because", 50, False)
    again = await stub.Generate(ask(run="runs/r"))
    assert (again.cached, again.text, again.reasoning) == (True, text, "because")
    pieces, complete = await streamed(stub, ask())
    assert (pieces, complete.cached) == ([text], True)
    (row,) = (await stub.GetUsage(GetUsageRequest(run="runs/r"))).rows
    assert (row.calls, row.cached_calls) == (1, 1)


async def test_streams_of_one_question_share_it_and_a_cut_one_goes_on_where_it_was(
    make_proxy: MakeProxy, teacher: Teacher
) -> None:
    stub = await make_proxy().start()
    teacher.latency = 0.2
    teacher.next.extend([completion("one two. CUT"), completion("one two. three")])
    streams = asyncio.gather(streamed(stub, ask()), streamed(stub, ask()))
    await teacher.asked.wait()
    assert (await stub.Generate(ask())).text == "one two. three"
    assert ["".join(pieces) for pieces, _ in await streams] == ["one two. three"] * 2
    assert len(teacher.bodies) == 2


async def test_a_stream_that_cannot_go_on_says_so_and_the_answer_is_stored(
    make_proxy: MakeProxy, teacher: Teacher
) -> None:
    stub = await make_proxy().start()
    teacher.next.extend([completion("oneCUT"), completion("another one")])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await streamed(stub, ask())
    assert errors.from_rpc_error(caught.value).reason == "TEACHER_STREAM_BROKEN"
    assert (await stub.Generate(ask())).cached


async def test_a_line_that_does_not_end_is_the_teachers_trouble(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy().start()
    teacher.next.append(completion("oneEND"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await streamed(stub, ask())
    assert errors.from_rpc_error(caught.value).reason == "TEACHER_STREAM_BROKEN"
    assert (await stub.Generate(ask())).text == "answer 2"


async def test_a_stream_that_is_left_does_not_lose_the_answer(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy().start()
    teacher.next.append(completion("a long answer that takes its time to be written"))
    call = stub.GenerateStream(GenerateStreamRequest(request=ask()))
    await call.read()
    call.cancel()
    await asyncio.sleep(1)
    assert (await stub.Generate(ask())).cached
    assert len(teacher.bodies) == 1


async def test_json_is_streamed_only_when_it_holds_its_schema(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy().start()
    teacher.next.extend([completion("not JSON"), completion('{"facts": ["a"]}')])
    pieces, complete = await streamed(stub, ask(response_format=json_format()))
    assert pieces == [complete.text] == ['{"facts": ["a"]}']


async def test_a_teacher_that_is_down_is_unavailable(make_proxy: MakeProxy) -> None:
    stub = await make_proxy(upstream_url="http://127.0.0.1:9", max_attempts=2).start()
    error = await failure(stub.Generate(ask()))
    assert (error.reason, error.code) == ("TEACHER_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)


async def test_text_generation_inference_is_asked_through_its_client(make_proxy: MakeProxy, teacher: Teacher) -> None:
    stub = await make_proxy(backend="tgi", max_attempts=2).start()
    teacher.next.append(completion('{"facts": ["a"]}', finish="eos_token", reasoning_content="because"))
    answer = await stub.Generate(ask(response_format=json_format(), sampling=Sampling(seed=7)))
    assert (answer.text, answer.reasoning, answer.usage.prompt_tokens) == ('{"facts": ["a"]}', "because", 100)
    sent = teacher.bodies[0]
    assert (sent["seed"], sent["temperature"], sent["max_tokens"]) == (7, 0.8, 1024)
    assert sent["response_format"]["value"]["required"] == ["facts"]
    assert teacher.keys == [f"Bearer {KEY}"]
    for status, reason in (
        (401, "TEACHER_KEY_REFUSED"),
        (422, "TEACHER_REJECTED_REQUEST"),
        (404, "TEACHER_MODEL_NOT_FOUND"),
    ):
        teacher.next.append(refusal(status))
        assert (await failure(stub.Generate(ask(f"status {status}")))).reason == reason
    teacher.next.append(refusal(503))
    assert (await stub.Generate(ask("retried"))).attempts == 2


async def test_killed_over_and_over_no_answer_that_was_stored_is_paid_again(
    make_proxy: MakeProxy, teacher: Teacher, valkey: Process
) -> None:
    teacher.latency = 0.1
    proxy = make_proxy(slots=4, lease_seconds=0.5)
    rows = [f"question {i}" for i in range(60)]
    texts: dict[str, str] = {}
    lost = 0
    for seconds in (0.4, 0.7, None):
        stub = await proxy.start()

        async def one(row: str, stub: Any = stub) -> None:
            answer = await stub.Generate(ask(row))
            # An answer that was given once is the answer for ever.
            assert texts.setdefault(row, answer.text) == answer.text

        calls = asyncio.gather(*(one(row) for row in rows), return_exceptions=True)
        if seconds is None:
            assert [result for result in await calls if result] == []
        else:
            await asyncio.sleep(seconds)
            proxy.kill()
            await calls
            await until(lambda: not teacher.now)
            async with redis.from_url(f"redis://{valkey.address}/0") as client:
                stored = [name async for name in client.scan_iter("nesycd:teacher:cache:*")]
            lost = len(teacher.bodies) - len(stored)
    assert len(texts) == 60
    # Each kill can hit only what was at the teacher just then, or on its way from there into the store.
    assert len(teacher.bodies) <= 60 + lost


async def test_the_stand_in_teacher_is_paid_once_for_each_question(make_proxy: MakeProxy, tmp_path: Path) -> None:
    faults = ["--rate-limit-rate", "0.2", "--retry-after", "0", "--error-rate", "0.2", "--drop-rate", "0.1"]
    paid = standin(tmp_path, *faults)
    with running(paid):
        stub = await make_proxy(upstream_url=f"http://{paid.address}", max_attempts=12).start()
        lines = (ROOT / "examples/families/train.jsonl").read_text().splitlines()[:10]
        rows = [Row(line["id"], line["task"], line["question"], line["answer"]) for line in map(json.loads, lines)]
        conversations = [[Message(**message) for message in rationale_messages(row)] for row in rows]
        requests = [GenerateRequest(messages=messages) for messages in 3 * conversations]
        answers = await asyncio.gather(*(stub.Generate(request) for request in requests), return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []
        async with aiohttp.ClientSession() as http, http.get(f"http://{paid.address}/calls") as response:
            calls = await response.json()
        assert calls["answered"] == 10
        assert calls["answered_again"] == 0


async def figures(port: int) -> dict[str, float]:
    """What a process tells Prometheus, by name and labels."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        lines = (await response.text()).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("nesycd_teacher_") and "_created" not in line)
    return {name: float(value) for name, value in pairs}


async def until_there_are(port: int, *, sent: int, waiting: int) -> None:
    """Waits until so many requests are at the teacher, and so many others may not go there yet."""
    wanted = {'nesycd_teacher_requests{state="sent"}': sent, 'nesycd_teacher_requests{state="waiting"}': waiting}
    async with asyncio.timeout(60):
        while not wanted.items() <= (await figures(port)).items():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_metrics_tell_money_tokens_hits_failures_and_slots(make_proxy: MakeProxy, teacher: Teacher) -> None:
    port = free_port()
    stub = await make_proxy(metrics_port=port, slots=1, max_asks_again=0).start()
    teacher.next.extend([refusal(500), completion("so it is")])
    await stub.Generate(ask("one", caller="rationalize"))
    await stub.Generate(ask("one", caller="rationalize"))
    teacher.next.append(completion("no JSON"))
    await failure(stub.Generate(ask("two", caller="extraction", response_format=json_format())))

    who, other = 'model="teacher-1"', 'caller="extraction",model="teacher-1"'
    told = await figures(port)
    paid = (100 * 10 + 50 * 20) / 1e6
    assert told == {
        f'nesycd_teacher_answers_total{{caller="rationalize",{who},source="teacher"}}': 1,
        f'nesycd_teacher_answers_total{{caller="rationalize",{who},source="cache"}}': 1,
        f'nesycd_teacher_failed_attempts_total{{caller="rationalize",{who},why="server"}}': 1,
        f'nesycd_teacher_failed_attempts_total{{{other},why="not_valid"}}': 1,
        f'nesycd_teacher_usd_total{{caller="rationalize",{who}}}': pytest.approx(paid),
        f"nesycd_teacher_usd_total{{{other}}}": pytest.approx(paid),
        f'nesycd_teacher_tokens_total{{caller="rationalize",kind="prompt",{who}}}': 100,
        f'nesycd_teacher_tokens_total{{caller="rationalize",kind="completion",{who}}}': 50,
        f'nesycd_teacher_tokens_total{{caller="extraction",kind="prompt",{who}}}': 100,
        f'nesycd_teacher_tokens_total{{caller="extraction",kind="completion",{who}}}': 50,
        "nesycd_teacher_slots": 1,
        'nesycd_teacher_requests{state="sent"}': 0,
        'nesycd_teacher_requests{state="waiting"}': 0,
    }

    teacher.may_answer.clear()
    three = [asyncio.ensure_future(stub.Generate(ask(text))) for text in ("a", "b", "c")]
    await until_there_are(port, sent=1, waiting=2)
    teacher.may_answer.set()
    await asyncio.gather(*three)
    told = await figures(port)
    assert told['nesycd_teacher_requests{state="sent"}'] == told['nesycd_teacher_requests{state="waiting"}'] == 0
