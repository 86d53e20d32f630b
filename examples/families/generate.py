"""Writes the example's rows: ``python -m examples.families.generate [--seed 0] [--out FOLDER]``.

Reads ``facts.jsonl``, writes ``train.jsonl``, ``test.jsonl`` and ``expert_facts.jsonl``. The same seed gives the same
bytes. Half of the test rows need at least one fact that no training row needs (``"facts": "held_out"``);
``expert_facts.jsonl`` holds exactly those facts, in the knowledge store's exchange format.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from itertools import combinations, cycle, islice
from pathlib import Path
from typing import Any

from examples.families.questions import FOLDER, FORMS, Fact, Solution, ask, load_facts, solve

FAMILIES = ("legs", "units", "battles")
TRAIN_ROWS = {"legs": 134, "units": 134, "battles": 132}
TEST_ROWS_OF_A_KIND = 30


def _numbers(fact: Fact) -> list[int]:
    """The multipliers that keep the arithmetic easy for a small model."""
    if fact.family == "legs":
        return [2, 3, 10]
    easy = [10, 100]
    if fact.value <= 12 or all(digit in "01234" for digit in str(fact.value)):
        easy.append(2)
    return easy


def _single(fact: Fact) -> list[str]:
    """Every question that needs this fact alone."""
    questions = []
    for form in FORMS[fact.family]:
        if "{b}" in form.template:
            continue
        if "{n}" not in form.template:
            numbers: list[int | None] = [None]
        elif fact.family == "battles":
            # No carry into the first digit of the year.
            numbers = [number for number in (100, 200) if fact.value % 1000 + number < 1000]
        else:
            numbers = list(_numbers(fact))
        questions += [ask(form, [fact], number) for number in numbers]
    return questions


def _in_turn(facts: list[Fact], rng: random.Random) -> Iterator[str]:
    """Questions about single facts, one fact after the other, without repeats."""
    stock = []
    for fact in facts:
        questions = _single(fact)
        rng.shuffle(questions)
        stock.append(questions)
    for questions in cycle(stock):
        if questions:
            yield questions.pop()
        elif not any(stock):
            return


def _pairs(first: list[Fact], second: list[Fact], rng: random.Random) -> Iterator[str]:
    """Questions about two facts, every fact about as often as the others, without repeats."""
    form = next(form for form in FORMS["legs"] if "{b}" in form.template)
    if first is second:
        pairs = list(combinations(first, 2))
    else:
        pairs = [(a, b) for a in first for b in second]
    # A sum that equals one of its parts, or a pair of the same number, teaches little.
    pairs = [pair for pair in pairs if pair[0].value != pair[1].value]
    rng.shuffle(pairs)
    uses: dict[str, int] = {}
    while pairs:
        best = min(pairs, key=lambda pair: uses.get(pair[0].id, 0) + uses.get(pair[1].id, 0))
        pairs.remove(best)
        for fact in best:
            uses[fact.id] = uses.get(fact.id, 0) + 1
        yield ask(form, best if rng.random() < 0.5 else best[::-1])


def _row(row_id: str, question: str, **more: str) -> dict[str, Any]:
    solution = solve(question)
    assert solution is not None, question
    return {"id": row_id, "task": solution.family, "question": question, "answer": solution.answer, **more}


def _needs(question: str) -> Solution:
    solution = solve(question)
    assert solution is not None, question
    return solution


def build(seed: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Makes the rows.

    Args:
        seed: Fixes everything.

    Returns:
        Training rows, test rows, and the expert's entries (proto3 JSON of ``nesycd.knowledge.v1.Entry``).
    """
    rng = random.Random(seed)
    train: list[dict[str, Any]] = []
    test: list[dict[str, Any]] = []
    for family in FAMILIES:
        facts = [fact for fact in load_facts() if fact.family == family]
        seen = [fact for fact in facts if not fact.held_out]
        held = [fact for fact in facts if fact.held_out]
        singles = _in_turn(seen, rng)
        if family == "legs":
            pairs = _pairs(seen, seen, rng)
            half = TRAIN_ROWS[family] // 2
            train_questions = [*islice(singles, half), *islice(pairs, TRAIN_ROWS[family] - half)]
            seen_questions = [*islice(singles, 15), *islice(pairs, TEST_ROWS_OF_A_KIND - 15)]
            new = _in_turn(held, rng)
            count = len(held)
            held_questions = [*islice(new, count), *islice(_pairs(held, seen, rng), TEST_ROWS_OF_A_KIND - count)]
        else:
            train_questions = list(islice(singles, TRAIN_ROWS[family]))
            seen_questions = list(islice(singles, TEST_ROWS_OF_A_KIND))
            held_questions = list(islice(_in_turn(held, rng), TEST_ROWS_OF_A_KIND))
        train += [_row(f"{family}-train-{n:03d}", text) for n, text in enumerate(train_questions)]
        flagged = [(text, "seen") for text in seen_questions] + [(text, "held_out") for text in held_questions]
        test += [_row(f"{family}-test-{n:03d}", text, facts=flag) for n, (text, flag) in enumerate(flagged)]
    needed = {fact.id: fact for row in train for fact in _needs(row["question"]).facts}
    missing = {fact.id: fact for row in test for fact in _needs(row["question"]).facts if fact.id not in needed}
    entries = [
        {"kind": "ENTRY_KIND_FACT", "text": fact.text, "tags": [fact.family], "sources": [{"citation": fact.citation}]}
        for fact in load_facts()
        if fact.id in missing
    ]
    rng.shuffle(train)
    return train, test, entries


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    work = path.with_name(path.name + ".tmp")
    work.write_text(text, encoding="utf-8")
    work.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.families.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("train", "test", "expert_facts"), build(options.seed), strict=True):
        _write(options.out / f"{name}.jsonl", rows)
        print(f"{options.out / name}.jsonl: {len(rows)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
