"""Training rows of the recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from method.mixtures import Counterfactual, general_rows, paper_rows, read_counterfactual, reader_rows
from method.prompts import Row

ROWS = [Row(f"r{i}", "legs", f"How many legs do {i} spiders have?", str(8 * i)) for i in range(10)]
RATIONALES = {row.id: f"8 * {row.id[1:]} = {row.answer}. So the answer is {row.answer}." for row in ROWS[:8]}
ENTRIES = {row.id: ["A spider has 8 legs.", "An ant has 6 legs."] for row in ROWS}
CHANGED = {
    row.id: Counterfactual(row.id, ("A spider has 5 legs.", "An ant has 6 legs."), "By 5.", "5") for row in ROWS[:3]
}


def kinds(examples: list) -> Counter:
    return Counter(e.kind for e in examples)


def test_general_rows_are_the_questions_with_an_accepted_rationale() -> None:
    examples = general_rows(ROWS, RATIONALES)
    assert kinds(examples) == {"DC": 8}
    one = next(e for e in examples if e.row_id == "r3")
    assert one.prompt == "Question: How many legs do 3 spiders have?\nAnswer:"
    assert one.completion == " 8 * 3 = 24. Therefore, the answer is 24."


def test_the_paper_mixture_has_knowledge_on_hard_rows_only() -> None:
    examples = paper_rows(ROWS, RATIONALES, ENTRIES, {"r1", "r2", "r9"})
    assert kinds(examples) == {"AD": 2, "DC": 8, "AP": 8}
    assert {e.row_id for e in examples if "Knowledge:" in e.prompt} == {"r1", "r2"}
    short = next(e for e in examples if e.kind == "AP" and e.row_id == "r3")
    assert (short.prompt[-13:], short.completion) == ("Short answer:", " 24")


def test_weights_are_realised_by_mixing_rows() -> None:
    examples = paper_rows(ROWS, RATIONALES, ENTRIES, {"r1", "r2"}, weights={"AD": 1.5, "DC": 2, "AP": 0})
    assert kinds(examples) == {"AD": 3, "DC": 16}
    with pytest.raises(ValueError, match="weight AD=-1"):
        paper_rows(ROWS, RATIONALES, ENTRIES, set(), weights={"AD": -1})
    with pytest.raises(ValueError, match="weight XX=1"):
        paper_rows(ROWS, RATIONALES, ENTRIES, set(), weights={"XX": 1})


def test_short_answers_carry_knowledge_on_request() -> None:
    examples = paper_rows(ROWS, RATIONALES, ENTRIES, set(), ap_with_knowledge=True)
    assert all("Knowledge:" in e.prompt for e in examples if e.kind == "AP")


def test_a_hard_row_without_entries_is_not_a_second_direct_row() -> None:
    assert kinds(paper_rows(ROWS, RATIONALES, {}, {"r1"})) == {"DC": 8, "AP": 8}


def test_the_reading_mixture_has_knowledge_on_every_row_and_replaces_what_it_can() -> None:
    examples = reader_rows(ROWS, RATIONALES, ENTRIES, CHANGED)
    assert kinds(examples) == {"CF": 3, "AD": 5}
    assert len({e.row_id for e in examples}) == 8
    changed = next(e for e in examples if e.kind == "CF")
    assert "A spider has 5 legs." in changed.prompt
    assert changed.completion == " By 5. Therefore, the answer is 5."
    assert kinds(reader_rows(ROWS, RATIONALES, ENTRIES, CHANGED, counterfactual_fraction=0.25)) == {"CF": 2, "AD": 6}
    assert kinds(reader_rows(ROWS, RATIONALES, ENTRIES)) == {"AD": 8}
    assert kinds(reader_rows(ROWS, RATIONALES, {})) == {"DC": 8}
    with pytest.raises(ValueError, match="between 0 and 1"):
        reader_rows(ROWS, RATIONALES, ENTRIES, counterfactual_fraction=2)


def test_a_changed_row_is_not_used_where_its_entries_do_not_fit() -> None:
    examples = reader_rows(ROWS, RATIONALES, ENTRIES, CHANGED, fit=lambda question, entries: list(entries)[:1])
    assert kinds(examples) == {"AD": 8}
    assert all("An ant" not in e.prompt for e in examples)


@pytest.mark.parametrize("make", [
    lambda rows, seed: general_rows(rows, RATIONALES, seed=seed),
    lambda rows, seed: paper_rows(rows, RATIONALES, ENTRIES, {"r1", "r2", "r3"}, weights={"AP": 0.5}, seed=seed),
    lambda rows, seed: reader_rows(rows, RATIONALES, ENTRIES, CHANGED, counterfactual_fraction=0.2, seed=seed),
])  # fmt: skip
def test_rows_depend_on_the_seed_and_not_on_the_order_they_came_in(make: Callable) -> None:
    assert make(ROWS, 1) == make(ROWS[::-1], 1)
    assert make(ROWS, 1) != make(ROWS, 2)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"answer": "24"}, False),
        ({"answer": "24 legs"}, False),
        ({"entry_index": 3}, False),
        ({"entry_index": 0}, False),
        ({"entry": "A spider has 8 legs"}, False),
        ({"rationale": "3 * 10 = 30. Therefore, the answer is 31."}, False),
        ({"rationale": "3 * 10 = 30."}, True),
        ({"answer": "30."}, True),
    ],
)
def test_a_counterfactual_reply_is_kept_only_where_entry_and_answer_change_together(change: dict, kept: bool) -> None:
    reply = {
        "entry_index": 1,
        "entry": "A spider has 10 legs.",
        "rationale": "A spider has 10 legs. 3 * 10 = 30. Therefore, the answer is 30.",
        "answer": "30",
    }
    result = read_counterfactual(ROWS[3], ENTRIES["r3"], {**reply, **change})
    assert (result is not None) is kept
    if result:
        assert result.entries == ("A spider has 10 legs.", "An ant has 6 legs.")
        assert result.answer == "30"
        assert "Therefore" not in result.rationale
