"""Prometheus metrics of the teacher proxy: what it cost, what the cache saved, what failed, and how full its slots are.

They count what this process did since its start; GetUsage tells the sums of all time, by run. Runs are no label: there is no
end of them.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from services.teacher.types import Question, Spent

_WHO = ["model", "caller"]
ANSWERS = Counter(
    "nesycd_teacher_answers", "Valid answers, by where they came from: teacher (paid) or cache.", [*_WHO, "source"]
)
FAILED = Counter(
    "nesycd_teacher_failed_attempts", "Requests to the teacher that gave no valid answer, paid or not.", [*_WHO, "why"]
)
USD = Counter("nesycd_teacher_usd", "US dollars booked, failed attempts and estimates included.", _WHO)
TOKENS = Counter("nesycd_teacher_tokens", "Tokens booked, prompt or completion.", [*_WHO, "kind"])
SLOTS = Gauge("nesycd_teacher_slots", "Most requests at the teacher at the same time, of this process.")
REQUESTS = Gauge(
    "nesycd_teacher_requests", "Requests that are at the teacher (sent), or may not go there yet (waiting).", ["state"]
)
WAITING, SENT = REQUESTS.labels("waiting"), REQUESTS.labels("sent")

MOST_NAMES = 200
"""Pairs of model and caller that are told apart: callers choose both names, and each pair is a time series."""
_names: set[tuple[str, str]] = set()


def answered(question: Question, source: str) -> None:
    """Counts an answer; `source` is "teacher" or "cache"."""
    ANSWERS.labels(*_who(question), source).inc()


def booked(question: Question, spent: Spent) -> None:
    """Counts what an attempt cost."""
    who = _who(question)
    USD.labels(*who).inc(spent.nano_usd / 1_000_000_000)
    TOKENS.labels(*who, "prompt").inc(spent.prompt_tokens)
    TOKENS.labels(*who, "completion").inc(spent.completion_tokens)


def failed(question: Question, why: str) -> None:
    """Counts an attempt without a valid answer; `why` is one of few words."""
    FAILED.labels(*_who(question), why).inc()


def _who(question: Question) -> tuple[str, str]:
    pair = (question.model, question.caller)
    if pair not in _names:
        if len(_names) >= MOST_NAMES:
            return "other", "other"
        _names.add(pair)
    return pair
