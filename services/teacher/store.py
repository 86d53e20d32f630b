"""Answers, leases and the ledger in Redis. Every change that belongs together is one script, so it happens or does not.

Keys:
    nesycd:teacher:cache:v1:<sha>         an answer
    nesycd:teacher:lease:v1:<sha>         who asks the teacher just now; expires
    nesycd:teacher:usage:v1:row:<sha>     a ledger row: one model, caller and run
    nesycd:teacher:usage:v1:rows[:<run>]  the names of all rows, and of a run's
    nesycd:teacher:spent:v1:<run>         a run's money, in billionths of a US dollar
    nesycd:teacher:reserved:v2:<run>      what its calls under way may cost at most, until when, and which of them are sent; expires unless one is
    nesycd:teacher:sent:v1:<run>          how those that are sent are booked if they are lost
    nesycd:teacher:booked:v1:<token>      a booking that was made, so that a repeated one counts once; expires
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff  # type: ignore[attr-defined]
from redis.exceptions import RedisError

from services.common import errors
from services.common.logs import get_logger
from services.teacher.types import Answer, Question, Spent

PREFIX = "nesycd:teacher"
BOOKED_SECONDS = 3600
T = TypeVar("T")
log = get_logger(__name__)

# A row's names are written with every booking: a row is complete whenever it exists.
_BOOK_ROW = """
local function book(row, all, of_run, model, caller, run)
  redis.call('HSET', row, 'model', model, 'caller', caller, 'run', run)
  redis.call('SADD', all, row)
  if run ~= '' then redis.call('SADD', of_run, row) end
end
"""

_OPEN = (
    _BOOK_ROW
    + """
local token, lease_ms, skip = ARGV[1], ARGV[2], ARGV[3]
if skip ~= '1' then
  local stored = redis.call('GET', KEYS[1])
  if stored then
    book(KEYS[3], KEYS[4], KEYS[5], ARGV[4], ARGV[5], ARGV[6])
    redis.call('HINCRBY', KEYS[3], 'cached_calls', 1)
    return {'hit', stored}
  end
end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= token then return {'busy', ''} end
redis.call('SET', KEYS[2], token, 'PX', lease_ms)
return {'mine', ''}
"""
)

_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

_BOOK = (
    _BOOK_ROW
    + """
local token, answer, run = ARGV[1], ARGV[2], ARGV[6]
-- Even where the attempt was booked as lost meanwhile: its answer is worth keeping.
if answer ~= '' then redis.call('SET', KEYS[1], answer) end
if run ~= '' then
  redis.call('HDEL', KEYS[7], token)
  redis.call('HDEL', KEYS[9], token)
end
if not redis.call('SET', KEYS[8], '1', 'NX', 'EX', ARGV[3]) then return 0 end
book(KEYS[3], KEYS[4], KEYS[5], ARGV[4], ARGV[5], run)
redis.call('HINCRBY', KEYS[3], ARGV[7], 1)
redis.call('HINCRBY', KEYS[3], 'prompt_tokens', ARGV[8])
redis.call('HINCRBY', KEYS[3], 'completion_tokens', ARGV[9])
redis.call('HINCRBY', KEYS[3], 'nano_usd', ARGV[10])
if ARGV[11] == '1' then
  redis.call('HINCRBY', KEYS[3], 'estimated_attempts', 1)
  redis.call('HINCRBY', KEYS[3], 'estimated_nano_usd', ARGV[10])
end
if run ~= '' then redis.call('INCRBY', KEYS[6], ARGV[10]) end
return 1
"""
)

_RESERVE = """
local token, now, expires, most, budget = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local booking = ARGV[6]
local booked, reserved = redis.call('GET', KEYS[1]) or '0', 0
if budget then
  local spent, wait = tonumber(booked), 'wait'
  local held = redis.call('HGETALL', KEYS[2])
  for i = 1, #held, 2 do
    local cost, ends, sent = string.match(held[i + 1], '^(%d+) (%d+) (%d)$')
    if tonumber(ends) < now and sent == '0' then redis.call('HDEL', KEYS[2], held[i])
    -- What is not sent yet makes way for what is sent now: so those that wait for their turn do not block each other.
    elseif held[i] ~= token and (sent == '1' or booking == '') then
      reserved = reserved + tonumber(cost)
      if tonumber(ends) < now then wait = 'lost' end
    end
  end
  if spent >= budget or spent + most > budget then return {'over', booked} end
  if spent + reserved + most > budget then
    -- What it had set aside before its turn came it must not keep: two that were refused would count each other, and neither would go.
    redis.call('HDEL', KEYS[2], token)
    return {wait, booked}
  end
end
redis.call('HSET', KEYS[2], token, ARGV[4] .. ' ' .. expires .. ' ' .. (booking == '' and '0' or '1'))
if booking ~= '' then redis.call('HSET', KEYS[3], token, booking) end
-- Nothing but void reservations may be forgotten: what was sent is money.
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('PERSIST', KEYS[2]) else redis.call('EXPIRE', KEYS[2], ARGV[7]) end
return {'reserved', booked}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger. Of its failed attempts, some were booked at an estimate; see `Store.book`."""

    model: str
    caller: str
    run: str
    calls: int
    cached_calls: int
    failed_attempts: int
    spent: Spent
    estimated_attempts: int
    estimated_nano_usd: int


def unavailable() -> errors.NesycdError:
    """Returns the error for a Redis that does not answer: without it nothing may be paid."""
    return errors.Unavailable(
        "The store of the teacher's answers (Redis, NESYCD_TEACHER_REDIS_URL) does not answer, and without it the "
        "teacher is not asked, because an answer could be lost or paid twice. Start it, then repeat the request.",
        reason="CACHE_UNAVAILABLE",
        retry_after=2.0,
    )


class Store:
    """Redis, as the proxy needs it. Every method raises Unavailable (CACHE_UNAVAILABLE) where Redis does not answer.

    Args:
        url: Redis' URL.
        lease_seconds: How long a lease lives without being renewed.
        timeout_seconds: For one command.
    """

    def __init__(self, url: str, lease_seconds: float, timeout_seconds: float = 3.0) -> None:
        # A pool that waits: the usual one fails when there are more commands at once than connections.
        pool: redis.BlockingConnectionPool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=32,
            timeout=10,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2),
        )
        self._redis = redis.Redis.from_pool(pool)  # type: ignore[attr-defined]
        self._lease_seconds = lease_seconds
        script = self._redis.register_script
        self._open, self._renew, self._release = script(_OPEN), script(_RENEW), script(_RELEASE)
        self._book, self._reserve = script(_BOOK), script(_RESERVE)

    async def _run(self, command: Awaitable[T]) -> T:
        try:
            return await command
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("redis_failed", error=type(error).__name__)
            raise unavailable() from None

    def _row_keys(self, question: Question) -> list[str]:
        name = json.dumps([question.model, question.caller, question.run], ensure_ascii=False)
        usage = f"{PREFIX}:usage:v1"
        row = hashlib.sha256(name.encode()).hexdigest()
        return [f"{usage}:row:{row}", f"{usage}:rows", f"{usage}:rows:{question.run}"]

    async def open(self, key: str, question: Question, token: str) -> Answer | Literal["mine", "busy"]:
        """Looks an answer up, or else takes the lease to ask for it, in one step.

        Args:
            key: The request's key.
            question: The request; a hit is counted for its caller and run.
            token: Names who asks.

        Returns:
            The stored answer; "mine" with the lease taken; "busy" where another process holds it.

        Raises:
            DataLoss: What is stored cannot be read (CACHE_DAMAGED).
        """
        state, stored = await self._run(
            self._open(
                keys=[f"{PREFIX}:cache:v1:{key}", f"{PREFIX}:lease:v1:{key}", *self._row_keys(question)],
                args=[
                    token,
                    int(self._lease_seconds * 1000),
                    int(question.skip_cache),
                    question.model,
                    question.caller,
                    question.run,
                ],
            )
        )
        if state != "hit":
            return "mine" if state == "mine" else "busy"
        try:
            return Answer.from_json(stored)
        except ValueError:
            raise errors.DataLoss(
                f"The stored answer calls/{key} cannot be read. Repeat the request with skip_cache to replace it.",
                reason="CACHE_DAMAGED",
            ) from None

    async def count_hit(self, question: Question) -> None:
        """Counts a request that was answered without paying, beside `open`."""
        row, every, of_run = self._row_keys(question)
        async with self._redis.pipeline(transaction=True) as pipe:
            names: dict[str | bytes, bytes | float | int | str] = {
                "model": question.model,
                "caller": question.caller,
                "run": question.run,
            }
            pipe.hset(row, mapping=names)
            pipe.sadd(every, row)
            if question.run:
                pipe.sadd(of_run, row)
            pipe.hincrby(row, "cached_calls", 1)
            await self._run(pipe.execute())

    @asynccontextmanager
    async def keep_lease(self, key: str, token: str) -> AsyncIterator[None]:
        """Renews a lease until the block is left, then gives it back."""
        lease = f"{PREFIX}:lease:v1:{key}"

        async def renew() -> None:
            while True:
                await asyncio.sleep(self._lease_seconds / 3)
                with suppress(errors.NesycdError):
                    await self._run(self._renew(keys=[lease], args=[token, int(self._lease_seconds * 1000)]))

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            # Not given back means that it expires by itself.
            with suppress(errors.NesycdError):
                await self._run(self._release(keys=[lease], args=[token]))

    async def book(
        self, key: str, question: Question, token: str, spent: Spent, answer: Answer | None, *, estimated: bool = False
    ) -> None:
        """Books a paid attempt, with the answer if it gave a valid one: both or neither, and once for each token.

        Args:
            key: The request's key.
            question: Who is charged.
            token: Names the attempt; its reservation is dropped.
            spent: What it cost.
            answer: What to store; None counts a failed attempt.
            estimated: The answer was lost, and what it cost is a guess; the row says how much of its sum is.
        """
        keys, args = self._booking(key, question, token, spent, answer, estimated)
        await self._run(self._book(keys=keys, args=args))

    def _booking(
        self, key: str, question: Question, token: str, spent: Spent, answer: Answer | None, estimated: bool
    ) -> tuple[list[str], list[str | int]]:
        """Keys and arguments of the script that books."""
        keys = [
            f"{PREFIX}:cache:v1:{key}",
            f"{PREFIX}:lease:v1:{key}",
            *self._row_keys(question),
            f"{PREFIX}:spent:v1:{question.run}",
            f"{PREFIX}:reserved:v2:{question.run}",
            f"{PREFIX}:booked:v1:{token}",
            f"{PREFIX}:sent:v1:{question.run}",
        ]
        args: list[str | int] = [
            token,
            answer.to_json() if answer else "",
            BOOKED_SECONDS,
            question.model,
            question.caller,
            question.run,
            "calls" if answer else "failed_attempts",
            spent.prompt_tokens,
            spent.completion_tokens,
            spent.nano_usd,
            int(estimated),
        ]
        return keys, args

    async def reserve(
        self, key: str, question: Question, token: str, most: Spent, budget: int | None, seconds: float, *, sent: bool
    ) -> tuple[Literal["reserved", "wait", "over"], int]:
        """Sets a run's money aside for one attempt; again for the same attempt, it is set aside for longer.

        Args:
            key: The request's key.
            question: Who is charged.
            token: Names the attempt.
            most: What it may cost at most.
            budget: The run's budget, in billionths of a US dollar; None: it has none, and all is allowed.
            seconds: After so long the process must have crashed. What was not sent by then is void; what was is lost.
            sent: It is sent now.

        Returns:
            "reserved"; "wait" where calls under way may use the rest; "over" where the budget does not allow it; and
            what the run has spent.
        """
        now, held = int(time.time()), int(seconds) + 1
        booking = json.dumps(self._booking(key, question, token, most, None, estimated=True)) if sent else ""
        limit = "" if budget is None else budget
        state, spent = await self._run(
            self._reserve(
                keys=[f"{PREFIX}:{what}:{question.run}" for what in ("spent:v1", "reserved:v2", "sent:v1")],
                args=[token, now, now + held, most.nano_usd, limit, booking, max(1, 2 * held)],
            )
        )
        if state == "lost":
            await self.book_lost(question.run)
            state = "wait"
        return state, int(spent)

    async def book_lost(self, run: str) -> None:
        """Books what a run's crashed processes had sent, at the most that it may have cost: nobody else will."""
        held: Any = await self._run(self._redis.hgetall(f"{PREFIX}:reserved:v2:{run}"))
        for token, reservation in held.items():
            _, ends, sent = reservation.split(" ")
            if sent == "0" or int(ends) >= int(time.time()):
                continue
            # None: somebody else was faster.
            if booking := await self._run(self._redis.hget(f"{PREFIX}:sent:v1:{run}", token)):
                keys, args = json.loads(booking)
                await self._run(self._book(keys=keys, args=args))
                log.warning("lost_call_booked", run=run)

    async def unreserve(self, run: str, token: str) -> None:
        """Gives back what was set aside for an attempt that was not paid."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for what in ("reserved:v2", "sent:v1"):
                pipe.hdel(f"{PREFIX}:{what}:{run}", token)
            await self._run(pipe.execute())

    async def rows(self, run: str, caller: str) -> list[Row]:
        """Returns the ledger's rows, of one run and one caller where they are not empty."""
        usage = f"{PREFIX}:usage:v1:rows"
        names = sorted(await self._run(self._redis.smembers(f"{usage}:{run}" if run else usage)))
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(name)
            found: list[dict[str, str]] = await self._run(pipe.execute())
        rows = [_row(fields) for fields in found if fields and (not caller or fields["caller"] == caller)]
        return sorted(rows, key=lambda row: (row.run, row.caller, row.model))

    async def ping(self) -> None:
        """Returns when Redis answers, and warns where it would forget what it is given."""
        await self._run(self._redis.ping())
        with suppress(RedisError, OSError):
            # Hosted servers often forbid CONFIG; then nothing can be said.
            config: dict[str, Any] = await self._redis.config_get("appendonly")
            if config.get("appendonly") == "no":
                log.warning("redis_not_durable", advice="set appendonly yes, or answers are paid again after a crash")

    async def close(self) -> None:
        """Closes connections."""
        await self._redis.aclose()  # type: ignore[attr-defined]


def _row(fields: dict[str, str]) -> Row:
    def number(name: str) -> int:
        return int(fields.get(name, 0))

    spent = Spent(number("prompt_tokens"), number("completion_tokens"), number("nano_usd"))
    return Row(
        fields["model"],
        fields["caller"],
        fields["run"],
        number("calls"),
        number("cached_calls"),
        number("failed_attempts"),
        spent,
        number("estimated_attempts"),
        number("estimated_nano_usd"),
    )
