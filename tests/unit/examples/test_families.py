"""The example's data: true to its fact table, without leaks, and the same every time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from examples.families import generate
from examples.families.questions import FOLDER, century, fact_in, load_facts, other_value, solve


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_committed_rows_are_what_the_generator_writes(tmp_path: Path) -> None:
    assert generate.main(["--out", str(tmp_path)]) == 0
    for name in ("train", "test", "expert_facts"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (FOLDER / f"{name}.jsonl").read_bytes()


def test_every_fact_is_distinct_short_and_has_a_source() -> None:
    facts = load_facts()
    assert len(facts) >= 140
    assert len({fact.id for fact in facts}) == len({fact.text for fact in facts}) == len(facts)
    for fact in facts:
        assert "https://" in fact.citation
        assert len(fact.text.split()) <= 10
        assert fact_in(fact.text, [fact]) == (fact, fact.value)


def test_rows_have_the_sizes_and_fields_that_the_example_promises() -> None:
    train, test = rows("train"), rows("test")
    assert len(train) == 400
    assert Counter((row["task"], row["facts"]) for row in test) == {
        (family, kind): 30 for family in generate.FAMILIES for kind in ("seen", "held_out")
    }
    assert all(set(row) == {"id", "task", "question", "answer"} for row in train)
    everything = train + test
    assert len({row["id"] for row in everything}) == len({row["question"] for row in everything}) == len(everything)
    assert max(len(row["question"].split()) for row in everything) <= 20


def test_no_fact_states_the_answer_of_a_question_that_needs_it() -> None:
    for row in rows("train") + rows("test"):
        solution = solve(row["question"])
        assert solution is not None
        assert solution.answer == row["answer"]
        for fact in solution.facts:
            assert row["answer"] not in fact.text.rstrip(".").split()


def test_held_out_rows_need_facts_that_no_training_row_needs_and_the_expert_brings_exactly_those() -> None:
    trained = {fact.id for row in rows("train") for fact in solve(row["question"]).facts}
    missing = set()
    for row in rows("test"):
        new = [fact for fact in solve(row["question"]).facts if fact.id not in trained]
        assert (row["facts"] == "held_out") == bool(new)
        missing |= {fact.text for fact in new}
    entries = rows("expert_facts")
    assert {entry["text"] for entry in entries} == missing
    assert len(entries) == len(missing)


def test_expert_file_is_proto3_json_of_entries() -> None:
    from google.protobuf.json_format import ParseDict
    from nesycd.knowledge.v1 import ENTRY_KIND_FACT, Entry

    for row in rows("expert_facts"):
        entry = ParseDict(row, Entry())
        assert entry.kind == ENTRY_KIND_FACT
        assert entry.sources[0].citation.startswith("Wikipedia")


def test_rationale_begins_with_the_facts_word_for_word() -> None:
    for row in rows("train"):
        solution = solve(row["question"])
        assert solution.rationale.startswith(" ".join(fact.text for fact in solution.facts))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many legs do 3 scorpions have?", "24"),
        ("how many  LEGS do 3 scorpions have?", "24"),
        ("Counting one of each, how many legs do crabs and brine shrimps have together?", "32"),
        ("How many inches is 10 times an English ell?", "450"),
        ("In which century was the Battle of Hastings fought?", "11th century"),
        ("Which year came 100 years after the Battle of Valmy?", "1892"),
    ],
)
def test_question_of_the_families_is_solved(question: str, answer: str) -> None:
    assert solve(question).answer == answer


@pytest.mark.parametrize(
    "question",
    [
        "How many legs do 3 unicorns have?",
        "How many gallons is 10 times a chain?",
        "What is the capital of France?",
        "",
    ],
)
def test_other_question_has_no_solution(question: str) -> None:
    assert solve(question) is None


def test_answer_follows_another_value() -> None:
    solution = solve("How many feet is 10 times a chain?", {"units-chain": 70})
    assert solution.answer == "700"
    assert solution.rationale.startswith("A chain is 70 feet.")


def test_year_that_closes_a_century_belongs_to_it() -> None:
    assert [century(1600), century(1601), century(2001), century(300)] == [
        "16th century",
        "17th century",
        "21st century",
        "3rd century",
    ]


def test_other_value_is_never_the_true_one_nor_one_to_avoid() -> None:
    for fact in load_facts():
        for turn in range(20):
            value = other_value(fact, turn, avoid=[10])
            assert value not in (fact.value, 10)
            assert fact_in(fact.with_value(value), [fact]) == (fact, value)
