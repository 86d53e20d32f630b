"""Training rows: of each recipe one shuffled list.

A kind of rows may count more or less than another: by the number of its rows, or by a weight on their loss.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from method.mixtures.counterfactuals import Counterfactual, read_counterfactual
from method.mixtures.recipes import RECIPES
from method.mixtures.rows import KINDS, Fit, Kind, Material, TrainingExample
from method.prompts import Row

__all__ = [
    "KINDS",
    "RECIPES",
    "Counterfactual",
    "Fit",
    "Kind",
    "TrainingExample",
    "build_rows",
    "read_counterfactual",
]


def build_rows(
    recipe: str,
    rows: Sequence[Row],
    rationales: Mapping[str, str],
    *,
    entries: Mapping[str, Sequence[str]] | None = None,
    hard_ids: Collection[str] = (),
    counterfactuals: Mapping[str, Counterfactual] | None = None,
    weights: Mapping[str, float] | None = None,
    weigh_by: Literal["rows", "loss"] = "rows",
    answer_with_knowledge: bool = False,
    counterfactual_fraction: float = 0.5,
    seed: int = 0,
    descriptions: Mapping[str, str] | None = None,
    fit: Fit | None = None,
) -> list[TrainingExample]:
    """Makes the training rows of a recipe, shuffled.

    Args:
        recipe: one of RECIPES.
        rows: the training questions.
        rationales: accepted rationale by row id. A row without one is left out, but by the recipes that need none
            ("answer", "reads-answer").
        entries: retrieved entries by row id (leave-one-out, own or none, as the caller retrieved them), best first.
        hard_ids: ids of the rows that the student failed: those with AD rows in the recipe "paper".
        counterfactuals: changed rows by row id, for the recipe "reader".
        weights: how much the rows of a kind count, 1 where it is not named; 0 leaves a kind out. Kinds that the recipe does
            not have are ignored. What a recipe weighs itself (CasCoD's 0.3 and 0.7) is multiplied. None: as the recipe has it.
        weigh_by: "rows": 1.5 takes all rows of the kind and a seeded half of them again. "loss": each row is there once,
            and the mean loss of its kind counts 1.5 times; so with 1 each, too, where the mean over all tokens would be another.
        answer_with_knowledge: whether the AP rows of the recipe "paper" carry the entries too.
        counterfactual_fraction: the part of all rows that a changed one replaces, 0 to 1; fewer where fewer are there.
        seed: of every choice and of the shuffle.
        descriptions: task description by task, where a task has one.
        fit: leaves out the entries that do not fit the student's context; by default all fit.

    Raises:
        ValueError: recipe or weigh_by is unknown, a weight is negative or of an unknown kind, or the fraction is not
            between 0 and 1.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe {recipe!r} is unknown: use one of {', '.join(RECIPES)}")
    if weigh_by not in ("rows", "loss"):
        raise ValueError(f'weigh_by {weigh_by!r} is unknown: use "rows" or "loss"')
    if not 0 <= counterfactual_fraction <= 1:
        raise ValueError(f"counterfactual_fraction is {counterfactual_fraction}: it must be between 0 and 1")
    for kind, weight in (weights or {}).items():
        if kind not in KINDS or not 0 <= weight < float("inf"):
            raise ValueError(f"weight {kind}={weight} is wrong: {', '.join(KINDS)} take a number from 0 up")
    material = Material(
        rows=sorted(rows, key=lambda row: row.id),
        rationales=rationales,
        entries=entries or {},
        hard_ids=hard_ids,
        counterfactuals=counterfactuals or {},
        counterfactual_fraction=counterfactual_fraction,
        answer_with_knowledge=answer_with_knowledge,
        seed=seed,
        descriptions=descriptions or {},
        fit=fit,
    )
    examples = RECIPES[recipe](material)
    if weights is not None and weigh_by == "loss":
        examples = _by_loss(examples, weights)
    elif any(weight != 1 for weight in (weights or {}).values()):
        examples = _by_rows(examples, weights or {}, random.Random(f"{recipe}-weights:{seed}"))
    random.Random(f"{recipe}:{seed}").shuffle(examples)
    return examples


def _by_rows(
    examples: list[TrainingExample], weights: Mapping[str, float], rng: random.Random
) -> list[TrainingExample]:
    weighed = []
    for kind in KINDS:
        of_kind, weight = [example for example in examples if example.kind == kind], weights.get(kind, 1)
        whole, part = int(weight), weight - int(weight)
        weighed += of_kind * whole + rng.sample(of_kind, round(part * len(of_kind)))
    return weighed


def _by_loss(examples: list[TrainingExample], weights: Mapping[str, float]) -> list[TrainingExample]:
    return [
        replace(example, weight=(1.0 if example.weight is None else example.weight) * weights.get(example.kind, 1))
        for example in examples
        if weights.get(example.kind, 1) > 0
    ]
