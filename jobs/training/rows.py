"""Rows as token ids, and which of them an optimiser step and a forward pass see."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.training.settings import Example, TrainingError, TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What a forward and backward pass is taken to cost beside its tokens, in tokens: an estimate, not a measurement. It decides
# when splitting a step further saves more padding than it costs.
MICRO_BATCH_OVERHEAD = 48


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of a row; loss falls on those from `prompt_length` on.

    Attributes:
        ids: Of prompt and completion.
        prompt_length: How many of them are the prompt's.
        weight: By what the mean loss of its kind counts.
        kind: Rows of one kind and weight have one mean loss; empty where the training weighs nothing: all have one.
    """

    ids: tuple[int, ...]
    prompt_length: int
    weight: float = 1.0
    kind: str = ""

    @property
    def targets(self) -> int:
        """How many tokens have loss."""
        return len(self.ids) - self.prompt_length


def encode_rows(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[EncodedRow], tuple[str, ...]]:
    """Turns examples into token ids, prompt and completion apart, as serving sees them.

    Args:
        examples: The rows.
        tokenizer: The base model's.
        max_length: Tokens a row may have; a longer one is left out whole: a cut question teaches wrong answers.

    Returns:
        The rows, and the ids of those that are too long. Rows of weight 0 teach nothing and are left out too. Where some
        have a weight, those without one have weight 1.

    Raises:
        TrainingError: A completion without tokens, or a weight that is no number from 0 up.
    """
    rows: list[EncodedRow] = []
    dropped: list[str] = []
    weighs = any(getattr(example, "weight", None) is not None for example in examples)
    for example in examples:
        given = getattr(example, "weight", None)
        weight = 1.0 if given is None else float(given)
        if not 0 <= weight < math.inf:
            raise TrainingError(f"row {example.row_id!r} has weight {weight}; it must be a number from 0 up")
        if weight == 0:
            continue
        prompt = tokenizer(example.prompt)["input_ids"]
        completion = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
        if not completion:
            raise TrainingError(f"row {example.row_id!r} has an empty completion")
        if tokenizer.eos_token_id is not None:
            completion = [*completion, tokenizer.eos_token_id]
        if len(prompt) + len(completion) > max_length:
            dropped.append(example.row_id)
        else:
            kind = str(getattr(example, "kind", "")) if weighs else ""
            rows.append(EncodedRow((*prompt, *completion), len(prompt), weight, kind))
    return rows, tuple(dropped)


def loss_divisors(rows: Sequence[EncodedRow]) -> dict[tuple[str, float], float]:
    """Returns by what the summed token losses of the rows of each (kind, weight) are divided to give a step's loss.

    Where the training weighs nothing, that is the mean over all completion tokens of the step. Else it is the sum
    over kinds of weight times mean loss of the kind's completion tokens, as the papers write it (CasCoD, arXiv:2405.19842:
    0.3 of the rationales' loss and 0.7 of the answers'): an answer of three tokens is not lost beside a rationale of sixty.

    Args:
        rows: All rows of the step, whichever process computes them.
    """
    tokens: dict[tuple[str, float], int] = {}
    for row in rows:
        tokens[row.kind, row.weight] = tokens.get((row.kind, row.weight), 0) + row.targets
    return {(kind, weight): count / weight for (kind, weight), count in tokens.items()}


def divide_rows(rows: Sequence[EncodedRow], shares: int) -> list[list[EncodedRow]]:
    """Divides a step's rows over processes, about as many tokens to each.

    Args:
        rows: Rows of the step.
        shares: How many processes there are; where there are more than rows, some get none.
    """
    if shares == 1:
        return [list(rows)]
    parts: list[list[EncodedRow]] = [[] for _ in range(shares)]
    sizes = [0] * shares
    for row in sorted(rows, key=lambda row: len(row.ids), reverse=True):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(row)
        sizes[smallest] += len(row.ids)
    return parts


def step_rows(rows: Sequence[EncodedRow], step: int, batch_size: int, seed: int) -> list[EncodedRow]:
    """Returns the rows of an optimiser step (from 0); each epoch has an order of its own, made from the seed."""
    steps = math.ceil(len(rows) / batch_size)
    epoch, position = divmod(step, steps)
    order = list(range(len(rows)))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return [rows[index] for index in order[position * batch_size : (position + 1) * batch_size]]


def micro_batches(rows: Sequence[EncodedRow], budget: int) -> list[list[EncodedRow]]:
    """Splits a step's rows, sorted by length, where that costs least (padding against the cost of one more pass).

    Args:
        rows: Rows of the step.
        budget: Padded tokens that a micro-batch may have. A row longer than that is a micro-batch of its own.

    Returns:
        The micro-batches.
    """
    ordered = sorted(rows, key=lambda row: len(row.ids))
    # best[i] = cheapest way to split the first i rows, and where its last micro-batch begins.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(ordered) + 1):
        length = len(ordered[end - 1].ids)
        best.append(
            min(
                (best[start][0] + length * (end - start) + MICRO_BATCH_OVERHEAD, start)
                for start in range(end)
                if start == end - 1 or length * (end - start) <= budget
            )
        )
    batches: list[list[EncodedRow]] = []
    end = len(ordered)
    while end:
        start = best[end][1]
        batches.append(ordered[start:end])
        end = start
    return batches[::-1]


def learning_rate_at(step: int, total: int, settings: TrainingSettings) -> float:
    """Returns the learning rate of a step (from 0): a linear rise over the warm-up, then decay towards zero."""
    warmup = math.ceil(settings.warmup * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if settings.schedule == "cosine":
        return settings.learning_rate * (1 + math.cos(math.pi * progress)) / 2
    return settings.learning_rate * (1 - progress)
