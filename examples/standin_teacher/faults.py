"""The stand-in's faults: what can be wrong with it, on request, and when."""

from __future__ import annotations

import hashlib
import math
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Faults(BaseModel):
    """What is wrong with the stand-in. All off by default. Rates are shares of the calls, 0 to 1.

    Which calls a rate hits depends on the seed, the request and, for ``error_rate``, ``rate_limit_rate``, ``drop_rate`` and
    ``garbage_rate``, on how often the same request has come before: a retry has new luck. The other rates hit a request
    each time or never.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    latency: float = Field(0, ge=0, le=600, description="seconds before every answer")
    rate_limit: float = Field(0, ge=0, description="answered calls a second, above that 429 (0: no limit)")
    rate_limit_rate: float = Field(0, ge=0, le=1, description="share of calls answered 429")
    retry_after: float = Field(1, ge=0, description="seconds that a 429 says in Retry-After")
    error_rate: float = Field(0, ge=0, le=1, description="share of calls answered 500")
    drop_rate: float = Field(0, ge=0, le=1, description="share of connections cut (streams: in the middle)")
    garbage_rate: float = Field(0, ge=0, le=1, description="share of calls answered 200 with a body that is no JSON")
    truncate_rate: float = Field(0, ge=0, le=1, description="share of answers cut short, finish reason length")
    invalid_json_rate: float = Field(0, ge=0, le=1, description="share of JSON answers that break the schema")
    wrong_answer_rate: float = Field(0, ge=0, le=1, description="share of rationales with a wrong answer")
    wrong_fact_rate: float = Field(0, ge=0, le=1, description="share of knowledge with wrong facts")
    fail_next: int = Field(0, ge=0, description="this many of the next calls fail with fail_status")
    fail_status: int = Field(503, ge=400, le=599, description="status of the calls that fail_next fails")
    down: bool = Field(False, description="answer 503 to every call")
    reasoning: bool = Field(False, description="put the rationale into reasoning_content too")
    api_key: str = Field("", description="the only key that is accepted; 401 for others (empty: any or none)")
    seed: int = Field(0, description="seed of all rates")


def hits(rate: float, seed: int, what: str, digest: str, attempt: int = 0) -> bool:
    """Says whether a fault of this rate hits a call: the same arguments give the same answer."""
    if rate <= 0:
        return False
    text = f"{seed}:{what}:{digest}:{attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48 < rate


class RateLimiter:
    """A token bucket that holds one second's worth of calls, at least one."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._tokens = 0.0
        self._last = 0.0

    def admit(self, rate: float) -> bool:
        """Takes one call; False where the limit of ``rate`` calls a second is reached."""
        now = time.monotonic()
        room = max(1.0, math.ceil(rate))
        if rate != self._rate:
            self._rate, self._tokens = rate, room
        else:
            self._tokens = min(room, self._tokens + (now - self._last) * rate)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def updated(faults: Faults, changes: dict[str, Any]) -> Faults:
    """A copy of ``faults`` with some values changed.

    Raises:
        pydantic.ValidationError: An unknown name or a value out of range.
    """
    return Faults.model_validate({**faults.model_dump(), **changes})
