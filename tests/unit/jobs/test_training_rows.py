"""By what the losses of a step's rows are divided."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.training.rows import encode_rows, loss_divisors
from method.mixtures import TrainingExample

LONG = TrainingExample("p", "abcdefghi", "r1", "DC")
SHORT = TrainingExample("p", "z", "r2", "AP")


class Characters:
    """A tokenizer of one token a sign."""

    eos_token_id = 0

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(sign) for sign in text]}


def loss(*examples: Any) -> float:
    """The loss of a step where each token of "DC" has loss 1 and each of "AP" loss 3."""
    rows, _ = encode_rows(examples, Characters(), 100)  # type: ignore[arg-type]
    divisors = loss_divisors(rows)
    each = {10: 1.0, 2: 3.0}  # a completion and the end mark
    return sum(each[row.targets] * row.targets / divisors[row.kind, row.weight] for row in rows)


def test_where_nothing_is_weighed_every_token_counts_as_any_other() -> None:
    assert loss(LONG, SHORT) == pytest.approx((10 * 1 + 2 * 3) / 12)
    rows = (SimpleNamespace(prompt="p", completion=e.completion, row_id=e.row_id) for e in (LONG, SHORT))
    assert loss(*rows) == loss(LONG, SHORT), "rows that know no weight"


@pytest.mark.parametrize(
    ("dc", "ap", "expected"), [(1.0, 1.0, 1 + 3), (0.3, 0.7, 0.3 * 1 + 0.7 * 3), (None, 2.0, 1 + 2 * 3)]
)
def test_where_kinds_are_weighed_their_mean_losses_are_added_with_weights_of_one_too(
    dc: float | None, ap: float, expected: float
) -> None:
    assert loss(replace(LONG, weight=dc), replace(SHORT, weight=ap)) == pytest.approx(expected)
