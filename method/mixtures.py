"""Training rows of each recipe. A loss weight is realised by mixing rows: one shuffled list, every row counted once.

Kinds of rows: DC (question -> rationale, answer), AD (question and retrieved knowledge -> rationale, answer), AP
(question -> answer) and CF (AD with one entry changed, and the rationale and answer that follow from the change).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from method.answers import split_rationale
from method.normalise import normalise_fact
from method.prompts import Row, answer_completion, student_completion, student_prompt
from method.scoring import is_correct

Kind = Literal["AD", "DC", "AP", "CF"]
RECIPES = ("general", "paper", "reader")
Fit = Callable[[str, Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class TrainingExample:
    """One row of supervised fine-tuning; the loss covers the completion only."""

    prompt: str
    completion: str
    row_id: str
    kind: Kind


@dataclass(frozen=True)
class Counterfactual:
    """A row whose knowledge was changed: the entries after the change, and what follows from them."""

    row_id: str
    entries: tuple[str, ...]
    rationale: str
    answer: str


def read_counterfactual(row: Row, entries: Sequence[str], reply: Mapping[str, Any]) -> Counterfactual | None:
    """Reads a teacher's reply to counterfactual_messages (already valid by COUNTERFACTUAL_SCHEMA).

    Args:
        row: the question.
        entries: the entries that the teacher was shown, in that order.
        reply: "entry_index" (from 1), "entry", "rationale" and "answer".

    Returns:
        The changed row, or None where nothing was learnt: no such entry, entry or answer unchanged, or a rationale that
        ends in another answer than the reply names.
    """
    index = int(reply["entry_index"]) - 1
    changed, answer = str(reply["entry"]).strip(), str(reply["answer"]).strip().rstrip(".")
    if not 0 <= index < len(entries) or not changed or not answer:
        return None
    if normalise_fact(changed) == normalise_fact(entries[index]) or is_correct(
        answer, row.answer, question=row.question
    ):
        return None
    rationale, concluded = split_rationale(str(reply["rationale"]))
    if not rationale or (concluded is not None and not is_correct(concluded, answer, question=row.question)):
        return None
    texts = tuple(changed if i == index else text for i, text in enumerate(entries))
    return Counterfactual(row.id, texts, rationale, answer)


def _usable(rows: Sequence[Row], rationales: Mapping[str, str]) -> list[Row]:
    """Rows with an accepted rationale, by id, so that the result does not depend on the order in which they came."""
    return sorted((row for row in rows if rationales.get(row.id, "").strip()), key=lambda row: row.id)


def _example(
    row: Row,
    rationale: str,
    answer: str,
    kind: Kind,
    entries: Sequence[str],
    descriptions: Mapping[str, str],
    fit: Fit | None,
) -> TrainingExample:
    kept = fit(row.question, entries) if fit and entries else entries
    prompt = student_prompt(row.question, entries=kept, task_description=descriptions.get(row.task, ""))
    return TrainingExample(prompt, student_completion(rationale, answer), row.id, kind)


def _shuffled(examples: list[TrainingExample], seed: int, recipe: str) -> list[TrainingExample]:
    random.Random(f"{recipe}:{seed}").shuffle(examples)
    return examples


def _weighted(examples: list[TrainingExample], weight: float, rng: random.Random) -> list[TrainingExample]:
    whole, part = int(weight), weight - int(weight)
    return examples * whole + rng.sample(examples, round(part * len(examples)))


def general_rows(
    rows: Sequence[Row], rationales: Mapping[str, str], *, seed: int = 0, descriptions: Mapping[str, str] | None = None
) -> list[TrainingExample]:
    """General distillation (stage 1): DC rows.

    Args:
        rows: the training questions.
        rationales: accepted rationale by row id; rows without one are left out.
        seed: of the shuffle.
        descriptions: task description by task, where a task has one.
    """
    examples = [
        _example(r, rationales[r.id], r.answer, "DC", (), descriptions or {}, None) for r in _usable(rows, rationales)
    ]
    return _shuffled(examples, seed, "general")


def paper_rows(
    rows: Sequence[Row],
    rationales: Mapping[str, str],
    entries: Mapping[str, Sequence[str]],
    hard_ids: Collection[str],
    *,
    weights: Mapping[str, float] | None = None,
    ap_with_knowledge: bool = False,
    seed: int = 0,
    descriptions: Mapping[str, str] | None = None,
    fit: Fit | None = None,
) -> list[TrainingExample]:
    """The paper's mixture (stage 4): AD for hard rows, DC and AP for all rows.

    Args:
        rows: the training questions.
        rationales: accepted rationale by row id; rows without one are left out.
        entries: retrieved entries by row id (leave-one-out, own or none, as the caller retrieved them), best first.
        hard_ids: ids of the rows that the student failed.
        weights: how often the rows of "AD", "DC" and "AP" occur; 1 each by default. 0 leaves a kind out, 1.5 takes
            all rows and a seeded half of them again.
        ap_with_knowledge: whether AP rows carry the entries too.
        seed: of the shuffle and of fractional weights.
        descriptions: task description by task, where a task has one.
        fit: (question, entries) -> the entries that fit the context.

    Raises:
        ValueError: a weight is negative or of an unknown kind.
    """
    shares = {"AD": 1.0, "DC": 1.0, "AP": 1.0, **(weights or {})}
    for kind, weight in shares.items():
        if kind not in ("AD", "DC", "AP") or not 0 <= weight < float("inf"):
            raise ValueError(f"weight {kind}={weight} is wrong: AD, DC and AP take a number from 0 up")
    known, usable, hard = descriptions or {}, _usable(rows, rationales), set(hard_ids)
    by_kind: dict[str, list[TrainingExample]] = {"AD": [], "DC": [], "AP": []}
    for row in usable:
        found = entries.get(row.id, ())
        by_kind["DC"].append(_example(row, rationales[row.id], row.answer, "DC", (), known, fit))
        if row.id in hard and found:  # without entries it would be the DC row again
            by_kind["AD"].append(_example(row, rationales[row.id], row.answer, "AD", found, known, fit))
        shown = found if ap_with_knowledge else ()
        prompt = student_prompt(
            row.question,
            entries=fit(row.question, shown) if fit and shown else shown,
            mode="answer",
            task_description=known.get(row.task, ""),
        )
        by_kind["AP"].append(TrainingExample(prompt, answer_completion(row.answer), row.id, "AP"))
    rng = random.Random(f"paper-weights:{seed}")
    mixed = [example for kind in ("AD", "DC", "AP") for example in _weighted(by_kind[kind], shares[kind], rng)]
    return _shuffled(mixed, seed, "paper")


def reader_rows(
    rows: Sequence[Row],
    rationales: Mapping[str, str],
    entries: Mapping[str, Sequence[str]],
    counterfactuals: Mapping[str, Counterfactual] | None = None,
    *,
    counterfactual_fraction: float = 0.5,
    seed: int = 0,
    descriptions: Mapping[str, str] | None = None,
    fit: Fit | None = None,
) -> list[TrainingExample]:
    """The reading mixture: AD for all rows, a part of them replaced by counterfactual rows where there are any.

    Args:
        rows: the training questions.
        rationales: accepted rationale by row id; rows without one are left out.
        entries: retrieved entries by row id (leave-one-out), best first; a row without any becomes a DC row.
        counterfactuals: changed rows by row id.
        counterfactual_fraction: the part of all rows to replace, 0 to 1; fewer where fewer are available.
        seed: of the choice and the shuffle.
        descriptions: task description by task, where a task has one.
        fit: (question, entries) -> the entries that fit the context. A counterfactual row whose entries do not all fit
            keeps its original form: the changed entry might be the one that goes.

    Raises:
        ValueError: the fraction is not between 0 and 1.
    """
    if not 0 <= counterfactual_fraction <= 1:
        raise ValueError(f"counterfactual_fraction is {counterfactual_fraction}: it must be between 0 and 1")
    known, usable = descriptions or {}, _usable(rows, rationales)
    candidates = []
    for row in usable:
        change = (counterfactuals or {}).get(row.id)
        if change and (fit is None or len(fit(row.question, change.entries)) == len(change.entries)):
            candidates.append(row.id)
    wanted = min(len(candidates), round(counterfactual_fraction * len(usable)))
    replaced = set(random.Random(f"reader-counterfactual:{seed}").sample(candidates, wanted))
    examples = []
    for row in usable:
        if row.id in replaced and counterfactuals:
            change = counterfactuals[row.id]
            examples.append(_example(row, change.rationale, change.answer, "CF", change.entries, known, None))
        else:
            found = entries.get(row.id, ())
            kind: Kind = "AD" if found else "DC"
            examples.append(_example(row, rationales[row.id], row.answer, kind, found, known, fit))
    return _shuffled(examples, seed, "reader")
