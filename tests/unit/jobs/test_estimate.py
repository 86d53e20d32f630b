"""What a run would take, against what runs of the example took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.artifacts import Artifacts
from jobs.spec import parse
from method.methods import all_methods
from services.common.errors import InvalidArgument, NotFound
from tests.estimates import FAMILIES, reckoned, stage


@pytest.fixture
def store(tmp_path: Path) -> Artifacts:
    return Artifacts((tmp_path / "artifacts").as_uri())


def test_rows_steps_and_teacher_calls_are_those_of_a_run_of_the_demo(store: Artifacts) -> None:
    made = reckoned(store)
    assert (stage(made, "rationalize").teacher_calls, stage(made, "train-augmented").teacher_calls) == (400, 250)
    assert (stage(made, "train-general").steps, stage(made, "train-augmented").steps) == (50, 50)
    # That run's teacher read 31,541 tokens for the rationales and 54,024 for the counterfactuals.
    assert stage(made, "rationalize").teacher_prompt_tokens == pytest.approx(31_541, rel=0.25)
    assert stage(made, "train-augmented").teacher_prompt_tokens == pytest.approx(54_024, rel=0.25)
    assert made.spec["method"] == "nesycd" and made.parameters == 134_515_008 and made.trainable_parameters > 1e6


@pytest.mark.parametrize("method", all_methods())
def test_every_method_is_reckoned_in_all_of_its_stages(method: str, store: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "passages.txt").write_text("A mite has 8 legs.\n\nA crab has 10 legs.\n")
    spec = {"data": {"passages": str(tmp_path / "passages.txt")}} if "passages" in all_methods()[method].stages else {}
    spec = {
        k: {"train": str(FAMILIES / "train.jsonl"), "test": str(FAMILIES / "test.jsonl"), **v} for k, v in spec.items()
    }
    made = reckoned(store, method=method, **spec)
    assert [s.name for s in made.stages] == [n for n, _ in parse(made.spec).plan()]
    for one in made.stages:
        assert (one.steps > 0) == one.name.startswith("train-") and (one.training_tokens > 0) == (one.steps > 0)
    assert stage(made, "evaluate").student_tokens > 0
    assert bool(made.training_memory_bytes) == bool(made.trainable_parameters) == ("train-" in str(made.stages))


def test_money_is_the_teachers_prices_and_a_note_where_there_are_none(store: Artifacts) -> None:
    paid = reckoned(store, {"m": (1.0, 3.0)})
    one = stage(paid, "rationalize")
    assert one.cost_usd == pytest.approx((one.teacher_prompt_tokens + 3 * one.teacher_completion_tokens) / 1e6)
    free = reckoned(store, {"m": (1.0, 3.0)}, teacher={"model": "other"})
    assert sum(s.cost_usd for s in free.stages) == 0 and "no price for other" in " ".join(free.notes)
    short = reckoned(store, {"*": (1000.0, 1000.0)}, teacher={"budget_usd": 1})
    assert "budget_usd" in " ".join(short.notes)


def test_more_rounds_folds_samples_and_weights_cost_what_they_repeat(store: Artifacts) -> None:
    once = reckoned(store)
    more = reckoned(store, rounds=2, diagnose={"folds": 4, "samples": 3}, evaluate={"samples": 2, "temperature": 0.6})
    assert {s.round for s in more.stages} == {1, 2} and stage(more, "validate", 2).rows > 0
    assert stage(more, "rationalize").rows < stage(once, "rationalize").rows, "held-out rows are not trained on"
    assert stage(more, "diagnose").steps > 4 * 30 and stage(more, "diagnose", 2).steps == 0
    assert stage(more, "evaluate", 2).student_tokens == 2 * stage(once, "evaluate").student_tokens
    assert stage(more, "extract", 2).teacher_calls < stage(more, "extract", 1).teacher_calls
    paper = reckoned(store, method="nesycd-paper")
    doubled = reckoned(store, method="nesycd-paper", training={"weights": {"AP": 2}})
    assert stage(doubled, "train-augmented").rows == stage(paper, "train-augmented").rows + 400
    short = reckoned(store, training={"max_length": 30})
    assert "training.max_length" in " ".join(short.notes)


def test_the_only_training_of_a_baseline_is_reckoned_as_long_as_the_others_first(
    store: Artifacts, tmp_path: Path
) -> None:
    (tmp_path / "passages.txt").write_text("A mite has 8 legs.\n")
    training = {"general": {"epochs": 3, "batch_size": 16}, "augmented": {"epochs": 1}}
    data = {"train": str(FAMILIES / "train.jsonl"), "test": str(FAMILIES / "test.jsonl"), "passages": str(tmp_path / "passages.txt")}  # fmt: skip
    made = reckoned(store, method="kard", data=data, training=training)
    assert (
        stage(made, "train-augmented").steps == stage(reckoned(store, training=training), "train-general").steps == 75
    )


def test_data_that_is_missing_or_wrong_is_told_as_by_a_run(store: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as gone:
        reckoned(store, data={"train": str(tmp_path / "none.jsonl"), "test": "y"})
    assert gone.value.reason == "DATA_NOT_FOUND"
    (tmp_path / "bad.jsonl").write_text(json.dumps({"id": "1"}))
    with pytest.raises(InvalidArgument) as bad:
        reckoned(store, data={"train": str(tmp_path / "bad.jsonl"), "test": "y"})
    assert bad.value.reason == "INVALID_DATA" and "bad.jsonl:1" in bad.value.message
