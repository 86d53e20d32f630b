"""Fields of a run spec that have no effect are told, and only these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.spec import parse
from jobs.spec_notes import notes
from method.methods import all_methods

DATA = {"train": "train.jsonl", "test": "test.jsonl", "passages": "passages.jsonl"}
EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*/*.yaml"))


def told(**spec: Any) -> list[str]:
    return notes({"name": "a", "data": DATA, **spec})


@pytest.mark.parametrize(
    ("spec", "start"),
    [
        ({"method": "kard", "knowledge": {"top_k": 5}}, "knowledge.top_k has no effect: method kard has it at 3"),
        ({"method": "nesycd-from-base", "training": {"start_from": "general"}}, "training.start_from has no effect: method nesycd-from-base has it at base"),
        ({"method": "kard", "training": {"augmented": {"epochs": 3}}}, "training.augmented.epochs has no effect: method kard trains once, as"),
        ({"method": "std-cot", "training": {"recipe": "paper"}}, "training.recipe has no effect: method std-cot trains once, as training.general"),
        ({"method": "zero-shot", "training": {"general": {"epochs": 3}}}, "training.general.epochs has no effect: method zero-shot trains nothing"),
        ({"training": {"weights": {"AP": 2}}}, "training.weights.AP has no effect: it is of the recipe paper"),
        ({"training": {"answer_with_knowledge": True}}, "training.answer_with_knowledge has no effect: it is of the recipe paper"),
        ({"training": {"recipe": "paper", "counterfactual_share": 0.2}}, "training.counterfactual_share has no effect: it is of the recipe reader"),
        ({"evaluate": {"top_p": 0.9}}, "evaluate.top_p has no effect: evaluate.temperature is 0"),
        ({"evaluate": {"sample_top_k": 50}}, "evaluate.sample_top_k has no effect: evaluate.temperature is 0"),
        ({"method": "std-cot", "knowledge": {"utility": {"rows": 9}}}, "knowledge.utility.rows has no effect: method std-cot does not measure entries; the rows of data.held_out"),
        ({"method": "kard", "rounds": 2}, "rounds has no effect: method kard does not repeat its stages; the rows of data.held_out"),
        ({"method": "std-cot", "diagnose": {"folds": 4}}, "diagnose.folds has no effect: method std-cot looks for no hard cases"),
        ({"method": "std-cot", "data": {**DATA, "expert": "e.jsonl"}}, "data.expert has no effect: no condition imported"),
        ({"evaluate": {"conditions": ["augmented"]}, "data": {**DATA, "expert": "e.jsonl"}}, "data.expert has no effect: no condition imported"),
        ({"method": "std-cot", "data": {**DATA, "held_out": 0.3}}, "data.held_out has no effect: rows are set aside for rounds"),
        ({"evaluate": {"demonstrations": 5, "conditions": ["augmented"]}}, "evaluate.demonstrations has no effect: no condition few_shot"),
        ({"method": "std-cot", "evaluate": {"edited_rows": 9}}, "evaluate.edited_rows has no effect: no condition edited"),
        ({"least_gain": 0.1}, "least_gain has no effect: there is one round"),
        ({"knowledge": {"utility": {"retire_below": -3}}}, "knowledge.utility.retire_below has no effect: knowledge.utility.rows is 0"),
        ({"method": "std-cot", "knowledge": {"top_k": 5}}, "knowledge.top_k has no effect: method std-cot reads no entries"),
    ],
)  # fmt: skip
def test_a_field_that_has_no_effect_is_told_with_its_place_and_why(spec: dict[str, Any], start: str) -> None:
    (note,) = told(**spec)
    assert note.startswith(start)


@pytest.mark.parametrize(
    "spec",
    [
        {"method": "kard", "knowledge": {"top_k": 3}},
        {"training": {"recipe": "paper", "weights": {"AP": 2}, "weigh_by": "loss"}},
        {"rounds": 2, "least_gain": 0.1, "diagnose": {"folds": 2}, "knowledge": {"utility": {"rows": 9, "retire_below": -3}}},
        {"evaluate": {"temperature": 0.6, "top_p": 0.9}},
        {"data": {**DATA, "expert": "e.jsonl"}},
        {"data": {**DATA, "held_out": 0.3}, "rounds": 2},
        {"method": "few-shot-cot", "evaluate": {"demonstrations": 5}},
        {"evaluate": {"edited_rows": 9, "conditions": ["edited"]}},
    ],
)  # fmt: skip
def test_nothing_is_told_of_what_counts(spec: dict[str, Any]) -> None:
    assert told(**spec) == []


@pytest.mark.parametrize("method", all_methods())
def test_nothing_is_told_of_what_nobody_wrote_nor_of_a_spec_with_its_defaults_written_out(method: str) -> None:
    assert told(method=method) == []
    assert notes(parse({"name": "a", "method": method, "data": DATA}).dump()) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_say_nothing_that_has_no_effect(path: Path) -> None:
    assert notes(yaml.safe_load(path.read_text(encoding="utf-8"))) == []
