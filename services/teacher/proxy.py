"""The way of a question through the proxy, in one piece.

check -> key -> flight (one per question in this process) -> store (an answer, or the lease to ask) -> budget ->
slot and rate -> budget, as sent -> ask, with retries -> judge -> store the answer and book its price together -> return.

Rules that the order keeps:
- Nothing is paid unless the store answers, and nothing is returned before it is stored.
- From the moment a request is sent until its answer is stored, a client that gives up does not stop it.
- An answer that was lost on its way, or with the process that waited for it, is booked at the most that it may have
  cost, marked as an estimate. (After kill -9 only where it is a run's: what was sent for runs is in the store.)
- Before that moment, a flight that nobody waits for any more ends: a cancelled run stops spending.
- What was not sent is not booked. Where Redis does not answer just before the sending, what it may have set aside is given back as soon
  as it does; only if this process ends before that, or it takes longer than a reservation lasts, it is booked as if it was lost.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from services.common import errors
from services.common.logs import get_logger
from services.common.numbers import whole_numbers
from services.teacher import metrics, reasons
from services.teacher.backends import RETRIABLE, Backend, Trouble, UpstreamError
from services.teacher.checks import check_question, valid_text
from services.teacher.keys import request_key, seed_of
from services.teacher.limits import Limits, Slot
from services.teacher.settings import Settings
from services.teacher.store import Row, Store
from services.teacher.types import Answer, Completion, Finish, Question, Sampling, Spent

NANO = 1_000_000_000
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.02, 0.25
MAX_BUDGET_POLL_SECONDS = 1.0
"""Longer, as each of those that wait for money looks at all that is set aside."""
LAST_BOOKING_SECONDS = 0.5
"""How long a call that is stopped may take to book what is lost by that."""
# What concerns the request that was first, not those that joined it: they then try for themselves.
_ONLY_THE_FIRST = {reasons.BUDGET_EXHAUSTED, reasons.PRICE_UNKNOWN}
# How a finished answer that is of no use is counted; any other one is "not_valid".
_WRONG = {Finish.LENGTH: "truncated", Finish.REFUSED: "refused"}
log = get_logger(__name__)


class Flight:
    """One question on its way, and how many wait for it.

    Args:
        fly: What it does.
        on_end: Is called when nobody shall join any more.
        live: Whether the text is wanted in pieces as it is written.

    Attributes:
        written: What the teacher has written in this attempt, as far as it is known piece by piece.
        news: Is set, and then another one, when more was written; set for good when the flight is over.
    """

    def __init__(
        self, fly: Callable[[Flight], Awaitable[Answer]], on_end: Callable[[], None], live: bool = False
    ) -> None:
        self.attempts = 0
        self.live = live
        self.written = ""
        self.news = asyncio.Event()
        self._waiting = 0
        self._paying = False
        self._on_end = on_end
        self._task = asyncio.ensure_future(fly(self))
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Answer]) -> None:
        self._on_end()
        self.news.set()
        if not task.cancelled():
            task.exception()  # Somebody may have waited, or nobody; asyncio need not complain.

    async def wait(self) -> Answer:
        """Waits for the answer; the last to give up ends the flight unless money is at stake."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._paying and not self._task.done():
                self._on_end()
                self._task.cancel()

    def wrote(self, piece: str) -> None:
        """Takes the next piece of what the teacher writes just now."""
        self.written += piece
        self.news.set()
        self.news = asyncio.Event()

    def paying(self) -> None:
        """From here on the flight is not given up: the teacher is being asked, or its answer stored."""
        self._paying = True
        self.attempts += 1
        self.written = ""

    def paid(self) -> None:
        """Nothing is at stake any more; ends the flight if nobody waits.

        Raises:
            Cancelled: Nobody waits.
        """
        self._paying = False
        if not self._waiting:
            self._on_end()
            raise errors.Cancelled("Nobody waits for this answer any more.")

    def over(self) -> bool:
        """Whether it ended, however."""
        return self._task.done()

    @property
    def is_paying(self) -> bool:
        """Whether money is at stake."""
        return self._paying

    async def end(self) -> None:
        """Stops it, whatever it does; what is lost by that it may book, unless the store does not answer."""
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=LAST_BOOKING_SECONDS)

    async def landed(self) -> None:
        """Returns when it is over, however it ended."""
        await asyncio.wait([self._task])


class Proxy:
    """See the module.

    Args:
        settings: The limits.
        backend: How to ask the teacher.
        store: Where answers and the ledger are.
    """

    def __init__(self, settings: Settings, backend: Backend, store: Store) -> None:
        self._settings = settings
        self._backend = backend
        self._store = store
        self._limits = Limits(settings.slots, settings.requests_per_minute, settings.tokens_per_minute)
        self._flights: dict[tuple[str, bool], Flight] = {}
        self._giving_back: set[asyncio.Task[None]] = set()

    async def generate(self, question: Question) -> Answer:
        """Answers a question, from the store or from the teacher.

        Raises:
            NesycdError: See reasons.py, and InvalidArgument for a request that is wrong.
        """
        question, key = self._checked(question)
        return await self._land(key, question, *self._flight(key, question))

    async def generate_live(self, question: Question) -> AsyncIterator[str | Answer]:
        """The same as `generate`, in pieces as they are written, and the whole answer at the end.

        The pieces together are the answer's text. Where it cannot be shown while it is written (it has a schema; it
        is stored; somebody else's request is on its way), it comes as one piece.

        Raises:
            Aborted: The teacher had to be asked again and wrote something else than what was given out already
                (TEACHER_STREAM_BROKEN). The new answer is stored: repeating the request returns it.
            NesycdError: See `generate`.
        """
        question, key = self._checked(question)
        flight, joined = self._flight(key, question, live=question.schema is None)
        landing = asyncio.ensure_future(self._land(key, question, flight, joined))
        given = ""
        try:
            while not flight.over():
                news = flight.news  # taken before looking, so that nothing is missed
                if len(flight.written) > len(given) and flight.written.startswith(given):
                    piece = flight.written[len(given) :]
                    given += piece
                    yield piece
                else:
                    await news.wait()
            answer = await landing
        finally:
            landing.cancel()
        if not answer.text.startswith(given):
            raise errors.Aborted(
                "The teacher had to be asked again and wrote something else. Repeat the request to get its answer.",
                reason=reasons.TEACHER_STREAM_BROKEN,
                metadata={"call": answer.call},
            )
        if rest := answer.text[len(given) :]:
            yield rest
        yield answer

    async def _land(self, key: str, question: Question, flight: Flight, joined: bool) -> Answer:
        """Waits for a flight; who joined one that ended for reasons of its first passenger's starts anew."""
        while True:
            try:
                answer = await flight.wait()
            except errors.NesycdError as error:
                if joined and error.reason in _ONLY_THE_FIRST:
                    flight, joined = self._flight(key, question)
                    continue
                raise
            if not joined:
                return answer
            try:
                await self._store.count_hit(question)
            except errors.NesycdError:
                log.warning("hit_not_counted", call=key)
            metrics.answered(question, "cache")
            return answer.as_hit()

    def _checked(self, question: Question) -> tuple[Question, str]:
        """Returns a question that can be answered, and its key."""
        check_question(question, self._settings)
        if question.schema is not None:
            question = replace(question, schema=whole_numbers(question.schema))
        return question, request_key(question)

    async def usage(self, run: str, caller: str) -> list[Row]:
        """Returns the ledger's rows, of one run and one caller where they are not empty."""
        if run:
            await self._store.book_lost(run)
        return await self._store.rows(run, caller)

    async def ready(self) -> None:
        """Returns when questions can be answered, that is when Redis is there."""
        while True:
            try:
                return await self._store.ping()
            except errors.NesycdError:
                await asyncio.sleep(0.5)

    async def close(self, grace_seconds: float) -> None:
        """Lets paid answers be stored, for so long, then closes everything."""
        flights = list(self._flights.values())
        if flights:
            try:
                async with asyncio.timeout(grace_seconds):
                    await asyncio.gather(*(flight.landed() for flight in flights))
            except TimeoutError:
                log.error("stopped_with_calls_under_way", calls=len(self._flights))
                await asyncio.gather(*(flight.end() for flight in flights))
        for task in self._giving_back:
            task.cancel()
        await self._backend.close()
        await self._store.close()

    def _flight(self, key: str, question: Question, live: bool = False) -> tuple[Flight, bool]:
        """Returns the flight of this question, and whether somebody else started it."""
        name = (key, question.skip_cache)
        if flight := self._flights.get(name):
            return flight, True

        def gone() -> None:
            if self._flights.get(name) is flight:
                del self._flights[name]

        flight = Flight(lambda own: self._fly(own, key, question), gone, live)
        self._flights[name] = flight
        return flight, False

    async def _fly(self, flight: Flight, key: str, question: Question) -> Answer:
        lease = uuid.uuid4().hex
        poll = MIN_POLL_SECONDS
        while (found := await self._store.open(key, question, lease)) == "busy":
            # Another replica asks the same: its answer is waited for, not paid again.
            await asyncio.sleep(poll * random.uniform(0.5, 1))
            poll = min(2 * poll, MAX_POLL_SECONDS)
        if isinstance(found, Answer):
            metrics.answered(question, "cache")
            return found
        async with self._store.keep_lease(key, lease):
            return await self._ask(flight, key, question)

    async def _ask(self, flight: Flight, key: str, question: Question) -> Answer:
        """Asks until there is a valid answer, raising max_tokens once and asking again within bounds."""
        asked = 0
        raised = False
        sampling = replace(
            question.sampling, seed=seed_of(question, key), stop=tuple(sorted(set(question.sampling.stop)))
        )
        while True:
            try:
                completion, token = await self._pay(flight, key, question, sampling)
            except UpstreamError as error:
                if error.trouble is not Trouble.BROKEN or asked >= self._settings.max_asks_again:
                    raise reasons.public_error(error, question.model, flight.attempts) from None
                asked += 1
                continue
            spent = self._spent(completion, question, sampling)
            text, wrong = valid_text(completion, question.schema)
            if completion.finish is Finish.STOP and not wrong:
                answer = Answer(
                    text,
                    completion.reasoning,
                    completion.model,
                    sampling,
                    spent,
                    f"calls/{key}",
                    flight.attempts,
                )
                await self._book(key, question, token, spent, answer)
                metrics.answered(question, "teacher")
                return answer

            await self._book(key, question, token, spent, None)
            metrics.failed(question, _WRONG.get(completion.finish, "not_valid"))
            log.info(
                "answer_not_valid", call=key, finish=completion.finish.value, model=question.model, run=question.run
            )
            flight.paid()
            metadata = {"model": question.model, "attempts": str(flight.attempts), "call": f"calls/{key}"}
            if completion.finish is Finish.REFUSED:
                raise errors.FailedPrecondition(
                    "The teacher refused to answer this request.", reason=reasons.TEACHER_REFUSED, metadata=metadata
                )
            if completion.finish is Finish.LENGTH:
                more = min(2 * sampling.max_tokens, self._settings.max_tokens_limit)
                if raised or more <= sampling.max_tokens:
                    raise errors.FailedPrecondition(
                        f"The teacher's answer was cut off after max_tokens={sampling.max_tokens}. Raise max_tokens (at "
                        f"most NESYCD_TEACHER_MAX_TOKENS_LIMIT={self._settings.max_tokens_limit}), or ask for less.",
                        reason=reasons.TEACHER_TRUNCATED,
                        metadata={**metadata, "max_tokens": str(sampling.max_tokens)},
                    )
                raised = True
                sampling = replace(sampling, max_tokens=more)
                continue
            if asked >= self._settings.max_asks_again:
                if completion.finish is Finish.UNKNOWN:
                    raise reasons.public_error(UpstreamError(Trouble.BROKEN), question.model, flight.attempts)
                raise errors.Aborted(
                    f"The teacher was asked {asked + 1} times, and its answer is still not valid: {wrong}. "
                    "Use a stronger teacher or a simpler schema.",
                    reason=reasons.TEACHER_INVALID_ANSWER,
                    metadata=metadata,
                )
            asked += 1
            sampling = replace(sampling, seed=seed_of(question, key, asked))

    async def _pay(self, flight: Flight, key: str, question: Question, sampling: Sampling) -> tuple[Completion, str]:
        """Sends the question until something comes back; trouble that passes is waited out within bounds.

        Returns:
            What came, and the name of the attempt under which it is to be booked.
        """
        tokens = self._prompt_estimate(question) + sampling.max_tokens
        for attempt in range(1, self._settings.max_attempts + 1):
            token = uuid.uuid4().hex
            try:
                async with self._slot(key, question, sampling, token, tokens) as slot:
                    flight.paying()
                    async with self._kept(key, question, sampling, token):
                        completion = await self._backend.complete(
                            question, sampling, flight.wrote if flight.live else None
                        )
                    slot.used(max(0, completion.prompt_tokens) + max(0, completion.completion_tokens) or tokens)
                    return completion, token
            except BaseException as error:
                if error.maybe_paid if isinstance(error, UpstreamError) else flight.is_paying:
                    # Nobody will say what the lost answer cost. Too much is booked rather than nothing: a budget holds.
                    await self._book(key, question, token, self._most(question, sampling), None, estimated=True)
                elif question.run:
                    await self._give_back(question.run, token)
                if not isinstance(error, UpstreamError):
                    raise
                trouble = error
            metrics.failed(question, trouble.trouble.name.lower())
            flight.paid()
            log.info(
                "teacher_failed", call=key, trouble=trouble.trouble.name, status=trouble.status, attempt=attempt,
                retry_after=trouble.retry_after, estimate_booked=trouble.maybe_paid,
            )  # fmt: skip
            wait = trouble.retry_after
            if wait is not None and wait > self._settings.max_retry_after_seconds:
                raise trouble
            if trouble.trouble not in RETRIABLE or attempt == self._settings.max_attempts:
                raise trouble
            if wait is not None:
                self._limits.pause(wait)
            top = min(self._settings.max_backoff_seconds, self._settings.backoff_seconds * 2 ** (attempt - 1))
            # Full jitter, on top of what the teacher asked for: those who were turned away do not come back together.
            await asyncio.sleep((wait or 0.0) + random.uniform(0, top))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _book(
        self, key: str, question: Question, token: str, spent: Spent, answer: Answer | None, *, estimated: bool = False
    ) -> None:
        """Stores and books until it succeeds: what is paid must not be lost because Redis is away just now."""
        delay = 0.1
        while True:
            try:
                await self._store.book(key, question, token, spent, answer, estimated=estimated)
                return metrics.booked(question, spent)
            except errors.NesycdError:
                log.error("paid_answer_not_stored_yet", call=key, retry_seconds=delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, 5.0)

    async def _give_back(self, run: str, token: str) -> None:
        """Gives back what was set aside for an attempt that was not sent; where Redis is away just now, in the background."""
        try:
            return await self._store.unreserve(run, token)
        except errors.NesycdError:
            log.warning("reservation_not_given_back_yet", run=run)

        async def go_on() -> None:
            delay = 0.1
            # After that it is void, or booked as lost.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._held_seconds):
                    while True:
                        await asyncio.sleep(delay)
                        delay = min(2 * delay, 5.0)
                        with suppress(errors.NesycdError):
                            return await self._store.unreserve(run, token)

        task = asyncio.create_task(go_on())
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    @asynccontextmanager
    async def _slot(
        self, key: str, question: Question, sampling: Sampling, token: str, tokens: int
    ) -> AsyncIterator[Slot]:
        """Waits until the question may be sent, with its money set aside for as long as its answer may take.

        Raises:
            NesycdError: See `_reserve`.
        """
        poll = MIN_POLL_SECONDS
        while True:
            if await self._reserve(key, question, sampling, token):
                async with self._limits.slot(tokens) as slot:
                    # While it waited for the slot, the money may have become that of a call that was sent before.
                    if await self._reserve(key, question, sampling, token, sent=True):
                        yield slot
                        return
                    slot.used(0)
            # Calls under way may need the rest, or leave some of it.
            await asyncio.sleep(poll * random.uniform(0.5, 1))
            poll = min(2 * poll, MAX_BUDGET_POLL_SECONDS)

    async def _reserve(
        self, key: str, question: Question, sampling: Sampling, token: str, *, sent: bool = False
    ) -> bool:
        """Sets aside what the next attempt may cost at most; False where calls under way may need that money.

        Raises:
            ResourceExhausted: The run's budget does not allow it (BUDGET_EXHAUSTED).
            FailedPrecondition: The price is not known (PRICE_UNKNOWN).
        """
        if not question.budget_usd:
            return True
        if self._price(question.model) is None:
            raise errors.FailedPrecondition(
                f"The run has a budget, but NESYCD_TEACHER_PRICES has no price for the model {question.model!r}.",
                reason=reasons.PRICE_UNKNOWN,
                subject="NESYCD_TEACHER_PRICES",
            )
        most = self._most(question, sampling)
        budget = int(question.budget_usd * NANO)
        state, spent = await self._store.reserve(key, question, token, most, budget, self._held_seconds, sent=sent)
        if state == "over":
            raise errors.ResourceExhausted(
                f"The budget of {question.run} is used up: {spent / NANO:.6f} of {question.budget_usd:.6f} US dollars are "
                f"spent, and the next call may cost {most.nano_usd / NANO:.6f}. Raise the budget; paid answers are kept.",
                reason=reasons.BUDGET_EXHAUSTED,
                subject=question.run,
                metadata={"spent_usd": f"{spent / NANO:.9f}", "budget_usd": f"{question.budget_usd:.9f}"},
            )
        return state == "reserved"

    @asynccontextmanager
    async def _kept(self, key: str, question: Question, sampling: Sampling, token: str) -> AsyncIterator[None]:
        """While a run's attempt is under way, keeps how it is booked if this process is killed; with a budget, `_reserve` has done it.

        Beside the request, not before it: there is no money to be weighed, and the slot would stand idle until the disk has it.
        """
        if not question.run or question.budget_usd:
            yield
            return
        most = self._most(question, sampling)
        keeping = asyncio.create_task(
            self._store.reserve(key, question, token, most, None, self._held_seconds, sent=True)
        )
        try:
            yield
        finally:
            # Before it is booked or given back. Where Redis is away, only this is lost.
            with suppress(errors.NesycdError):
                await keeping

    @property
    def _held_seconds(self) -> float:
        """How long money is set aside for one attempt; after that its process must have crashed."""
        return 2 * self._settings.request_timeout_seconds

    def _price(self, model: str) -> tuple[float, float] | None:
        return self._settings.prices.get(model) or self._settings.prices.get("*")

    def _cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> int:
        """Returns billionths of a US dollar."""
        prompt, completion = self._price(model) or (0.0, 0.0)
        return round((prompt_tokens * prompt + completion_tokens * completion) * NANO / 1_000_000)

    def _most(self, question: Question, sampling: Sampling) -> Spent:
        """Returns what one attempt may cost at most."""
        prompt = self._prompt_estimate(question)
        return Spent(prompt, sampling.max_tokens, self._cost(question.model, prompt, sampling.max_tokens))

    @staticmethod
    def _prompt_estimate(question: Question) -> int:
        """Returns tokens of the prompt, rather too many: three bytes a token, and the chat template's share."""
        return sum(len(message.content.encode()) // 3 + 8 for message in question.messages)

    def _spent(self, completion: Completion, question: Question, sampling: Sampling) -> Spent:
        """Returns what an attempt cost; where the teacher does not say, the estimate counts, because free is worse."""
        prompt = completion.prompt_tokens if completion.prompt_tokens >= 0 else self._prompt_estimate(question)
        written = completion.completion_tokens
        if written < 0:
            written = min(sampling.max_tokens, len((completion.text + completion.reasoning).encode()) // 3 + 1)
        return Spent(prompt, written, self._cost(question.model, prompt, written))
