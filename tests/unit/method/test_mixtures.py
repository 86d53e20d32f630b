"""Training rows of the recipes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from method.mixtures import RECIPES, Counterfactual, TrainingExample, build_rows, read_counterfactual
from method.prompts import Row

ROWS = [Row(f"r{i}", "legs", f"How many legs do {i} spiders have?", str(8 * i)) for i in range(10)]
RATIONALES = {row.id: f"8 * {row.id[1:]} = {row.answer}. So the answer is {row.answer}." for row in ROWS[:8]}
ENTRIES = {row.id: ["A spider has 8 legs.", "An ant has 6 legs."] for row in ROWS}
CHANGED = {
    row.id: Counterfactual(row.id, ("A spider has 5 legs.", "An ant has 6 legs."), "By 5.", "5") for row in ROWS[:3]
}


def kinds(examples: list[TrainingExample]) -> Counter[str]:
    return Counter(e.kind for e in examples)


def of(examples: list[TrainingExample], kind: str, row_id: str = "r3") -> tuple[str, str]:
    """The end of the prompt, and the completion, of a row."""
    one = next(e for e in examples if e.kind == kind and e.row_id == row_id)
    return one.prompt[-50:], one.completion


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("general", {"DC": 8}),
        ("answer", {"AP": 10}),
        ("mt-cot", {"DC": 8, "AP": 8}),
        ("step-by-step", {"AP": 8, "R": 8}),
        ("cascod", {"R": 8, "A": 8}),
        ("reads-answer", {"AP": 10}),
        ("reads-cot", {"AD": 8}),
        ("paper", {"AD": 2, "DC": 8, "AP": 8}),
        ("reader", {"AD": 5, "CF": 3}),
    ],
)
def test_a_recipe_makes_its_kinds_of_rows_of_what_has_a_rationale(recipe: str, expected: dict[str, int]) -> None:
    examples = build_rows(
        recipe, ROWS, RATIONALES, entries=ENTRIES, hard_ids={"r1", "r2", "r9"}, counterfactuals=CHANGED
    )
    assert kinds(examples) == expected
    needs_none = recipe in ("answer", "reads-answer")
    assert {e.row_id for e in examples} == {row.id for row in (ROWS if needs_none else ROWS[:8])}


def test_every_recipe_is_told_above() -> None:
    marks = test_a_recipe_makes_its_kinds_of_rows_of_what_has_a_rationale.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_depend_on_the_seed_and_not_on_the_order_they_came_in(recipe: str) -> None:
    def make(rows: list[Row], seed: int) -> list[TrainingExample]:
        return build_rows(
            recipe, rows, RATIONALES, entries=ENTRIES, hard_ids={"r1", "r2", "r3"}, counterfactuals=CHANGED,
            counterfactual_fraction=0.2, weights={"AP": 0.5}, seed=seed,
        )  # fmt: skip

    assert make(ROWS, 1) == make(random.Random(0).sample(ROWS, len(ROWS)), 1)
    assert make(ROWS, 1) != make(ROWS, 2)


def test_what_a_student_learns_to_write_after_each_prompt() -> None:
    prompt = "How many legs do 3 spiders have?\nAnswer:"
    mt, steps, cascade = (build_rows(recipe, ROWS, RATIONALES) for recipe in ("mt-cot", "step-by-step", "cascod"))
    assert of(mt, "DC")[0].endswith(prompt)
    assert of(mt, "DC")[1] == " 8 * 3 = 24. Therefore, the answer is 24."
    assert of(mt, "AP")[0].endswith("spiders have?\nShort answer:")
    assert of(mt, "AP")[1] == " 24"
    assert of(steps, "AP") == of(mt, "AP")
    assert of(steps, "R")[0].endswith(prompt)
    assert of(steps, "R")[1] == " 8 * 3 = 24."
    assert of(cascade, "R") == of(steps, "R")
    assert of(cascade, "A")[0].endswith("Answer: 8 * 3 = 24. Therefore, the answer is")
    assert of(cascade, "A")[1] == " 24."


def test_the_two_steps_of_the_cascade_together_are_the_rationale_with_its_answer() -> None:
    whole = {e.row_id: e.prompt + e.completion for e in build_rows("general", ROWS, RATIONALES)}
    cascade = build_rows("cascod", ROWS, RATIONALES)
    assert {e.row_id: e.prompt + e.completion for e in cascade if e.kind == "A"} == whole
    first = {e.row_id: e.prompt + e.completion for e in cascade if e.kind == "R"}
    assert all(whole[row_id].startswith(text) for row_id, text in first.items())


def test_cascod_weighs_rationale_and_answer_by_their_loss() -> None:
    assert {(e.kind, e.weight) for e in build_rows("cascod", ROWS, RATIONALES)} == {("R", 0.3), ("A", 0.7)}
    twice = build_rows("cascod", ROWS, RATIONALES, weights={"A": 2}, weigh_by="loss")
    assert {(e.kind, e.weight) for e in twice} == {("R", 0.3), ("A", 1.4)}
    assert all(e.weight is None for e in build_rows("paper", ROWS, RATIONALES, entries=ENTRIES, hard_ids={"r1"}))


def test_a_rationale_of_the_answer_alone_is_nothing_to_learn_to_write() -> None:
    rationales = {"r3": "Therefore, the answer is 24."}
    assert kinds(build_rows("cascod", ROWS, rationales)) == {"A": 1}
    assert kinds(build_rows("step-by-step", ROWS, rationales)) == {"AP": 1}


def test_the_paper_mixture_has_knowledge_on_hard_rows_only() -> None:
    examples = build_rows("paper", ROWS, RATIONALES, entries=ENTRIES, hard_ids={"r1", "r2", "r9"})
    assert {e.row_id for e in examples if "Knowledge:" in e.prompt} == {"r1", "r2"}
    assert of(examples, "AP")[1] == " 24"


def test_weights_are_realised_by_mixing_rows() -> None:
    weights = {"AD": 1.5, "DC": 2, "AP": 0}
    examples = build_rows("paper", ROWS, RATIONALES, entries=ENTRIES, hard_ids={"r1", "r2"}, weights=weights)
    assert kinds(examples) == {"AD": 3, "DC": 16}
    assert {e.weight for e in examples} == {None}
    assert {e.weight for e in build_rows("paper", ROWS, RATIONALES, weights={"AD": 1, "DC": 1, "AP": 1})} == {None}


def test_weights_of_the_loss_leave_each_row_once() -> None:
    examples = build_rows(
        "paper", ROWS, RATIONALES, entries=ENTRIES, hard_ids={"r1", "r2"}, weights={"AD": 1.5, "DC": 2, "AP": 0},
        weigh_by="loss",
    )  # fmt: skip
    assert kinds(examples) == {"AD": 2, "DC": 8}
    assert {(e.kind, e.weight) for e in examples} == {("AD", 1.5), ("DC", 2.0)}


def test_weights_of_one_are_weights_of_the_loss_where_these_are_asked_for() -> None:
    examples = build_rows(
        "paper",
        ROWS,
        RATIONALES,
        entries=ENTRIES,
        hard_ids={"r1"},
        weights={"AD": 1, "DC": 1, "AP": 1},
        weigh_by="loss",
    )
    assert {(e.kind, e.weight) for e in examples} == {("AD", 1.0), ("DC", 1.0), ("AP", 1.0)}


def test_errors_only_are_the_hard_rows_with_their_knowledge() -> None:
    for by in ("rows", "loss"):
        examples = build_rows(
            "paper", ROWS, RATIONALES, entries=ENTRIES, hard_ids={"r1", "r2"}, weights={"DC": 0, "AP": 0}, weigh_by=by
        )
        assert kinds(examples) == {"AD": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"AD": -1}}, "weight AD=-1"),
        ({"weights": {"XX": 1}}, "weight XX=1"),
        ({"weights": {"AD": float("nan")}}, "weight AD=nan"),
        ({"weigh_by": "luck"}, "weigh_by 'luck' is unknown"),
        ({"counterfactual_fraction": 2}, "between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_rows("paper", ROWS, RATIONALES, **options)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="recipe 'x' is unknown: use one of general, answer"):
        build_rows("x", ROWS, RATIONALES)


def test_short_answers_carry_knowledge_on_request() -> None:
    examples = build_rows("paper", ROWS, RATIONALES, entries=ENTRIES, answer_with_knowledge=True)
    assert all("Knowledge:" in e.prompt for e in examples if e.kind == "AP")
    assert all("Knowledge:" in e.prompt for e in build_rows("reads-answer", ROWS, {}, entries=ENTRIES))


def test_a_row_without_entries_is_trained_without_them() -> None:
    assert kinds(build_rows("paper", ROWS, RATIONALES, hard_ids={"r1"})) == {"DC": 8, "AP": 8}
    assert kinds(build_rows("reader", ROWS, RATIONALES)) == {"DC": 8}
    assert kinds(build_rows("reads-cot", ROWS, RATIONALES)) == {"DC": 8}


def test_the_reading_mixture_replaces_what_it_can() -> None:
    def make(fraction: float) -> list[TrainingExample]:
        return build_rows(
            "reader", ROWS, RATIONALES, entries=ENTRIES, counterfactuals=CHANGED, counterfactual_fraction=fraction
        )

    changed = next(e for e in make(0.5) if e.kind == "CF")
    assert "A spider has 5 legs." in changed.prompt
    assert changed.completion == " By 5. Therefore, the answer is 5."
    assert kinds(make(0.25)) == {"CF": 2, "AD": 6}
    assert kinds(make(0)) == {"AD": 8}
    assert len({e.row_id for e in make(1)}) == 8


def test_a_changed_row_is_not_used_where_its_entries_do_not_fit() -> None:
    examples = build_rows(
        "reader", ROWS, RATIONALES, entries=ENTRIES, counterfactuals=CHANGED, fit=lambda question, e: list(e)[:1]
    )
    assert kinds(examples) == {"AD": 8}
    assert all("An ant" not in e.prompt for e in examples)


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
