"""Names that callers choose do not grow the metrics without end."""

from __future__ import annotations

import pytest

from services.teacher import metrics
from services.teacher.types import Question, Sampling


def test_pairs_of_names_beyond_a_number_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_names", set())

    def count(caller: str, model: str) -> float:
        return metrics.ANSWERS.labels(model, caller, "cache")._value.get()

    for number in range(metrics.MOST_NAMES + 3):
        question = Question((), "m", Sampling(0, 1, 1), caller=f"c{number}")
        metrics.answered(question, "cache")
        metrics.answered(question, "cache")
    assert count("c0", "m") == count(f"c{metrics.MOST_NAMES - 1}", "m") == 2
    assert count("other", "other") == 6
    assert metrics.ANSWERS._metrics.keys().isdisjoint({("m", f"c{metrics.MOST_NAMES}", "cache")})
