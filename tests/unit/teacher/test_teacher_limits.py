"""Retry-After, buckets and slots."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.http import parse_retry_after
from services.teacher.limits import Limits, TokenBucket

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (" 0.5 ", 0.5),
        ("-3", 0),
        ("Tue, 24 Nov 2026 12:01:00 GMT", 60),
        ("Tuesday, 24-Nov-26 12:01:00 GMT", 60),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("Tue, 24 Nov 2026 14:01:00 +0200", 60),
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Tue, 99 Nov 2026 12:01:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_gives_seconds_or_nothing(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or seconds >= 0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 50)), max_size=40), st.floats(60, 6000))
def test_a_bucket_never_gives_more_than_its_rate_and_one_burst(steps: list[tuple[float, float]], rate: float) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock=clock)
    used: list[tuple[float, float]] = []
    for pause, amount in steps:
        clock.now += pause
        used.append((clock.now + bucket.take(amount), amount))
    total = 0.0
    last = 0.0
    for at, amount in used:
        assert at >= last  # in order of coming
        last = at
        total += amount
        assert total <= max(1, rate / 60) + at * rate / 60 + 1e-6 * total


def test_a_bucket_without_a_rate_never_waits() -> None:
    assert TokenBucket(0).take(1e9) == 0


def test_what_is_given_back_can_be_taken_again() -> None:
    clock = Clock()
    bucket = TokenBucket(60, clock=clock)
    bucket.take(1)
    assert bucket.take(10) == pytest.approx(10)
    bucket.give_back(10)
    assert bucket.take(1) == pytest.approx(1)


async def test_who_gives_up_waiting_returns_what_it_took() -> None:
    limits = Limits(slots=4, requests_per_minute=60)
    async with limits.slot(1):
        pass
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), limits.slot(1):
                pass
    began = time.monotonic()
    async with limits.slot(1):
        assert time.monotonic() - began < 1.5


async def test_a_pause_holds_for_all_and_can_be_prolonged() -> None:
    limits = Limits(slots=4)
    limits.pause(0.1)
    waiting = asyncio.create_task(_enter(limits))
    await asyncio.sleep(0.05)
    limits.pause(0.2)
    began = time.monotonic()
    await waiting
    assert time.monotonic() - began >= 0.19


async def _enter(limits: Limits) -> None:
    async with limits.slot(1):
        pass
