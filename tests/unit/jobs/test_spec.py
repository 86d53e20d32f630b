"""The run spec is checked strictly, and each problem is told in one sentence with its place."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2

from jobs.spec import check_run_id, parse
from method.methods import TRAINING_STAGES, all_methods
from services.common.errors import InvalidArgument

LEAST: dict[str, Any] = {"name": "demo", "data": {"train": "train.jsonl", "test": "test.jsonl"}}


def problems(spec: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        parse(spec)
    assert caught.value.reason == "INVALID_SPEC"
    return dict(caught.value.violations)


def test_the_least_spec_gets_defaults_and_survives_a_round_trip() -> None:
    spec = parse(LEAST)
    assert spec.training.lora.rank == 16
    assert parse(spec.dump()) == spec


def test_what_was_measured_best_is_the_default_and_a_phase_that_is_named_in_part_keeps_the_rest() -> None:
    training = parse({**LEAST, "training": {"augmented": {"epochs": 3}}}).training
    assert training.start_from == "general" and training.general.learning_rate == 1e-3
    assert (training.augmented.epochs, training.augmented.learning_rate) == (3, 5e-4)


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        ({"training": {"lora": {"rank": "16"}}}, "spec.training.lora.rank", "must be a whole number, not '16'"),
        ({"training": {"lora": {"rank": 0}}}, "spec.training.lora.rank", "greater than or equal to 1"),
        ({"training": {"general": {"epoch": 1}}}, "spec.training.general.epoch", "no such field"),
        ({"seed": True}, "spec.seed", "whole number"),
        ({"seed": 1.5}, "spec.seed", "whole number"),
        ({"name": "a b"}, "spec.name", "letters, digits and hyphens"),
        ({"name": "-a"}, "spec.name", "hyphen"),
        ({"method": "magic"}, "spec.method", "use one of"),
        ({"data": {"train": "x"}}, "spec.data.test", "missing"),
        ({"data": "x"}, "spec.data", "must be a mapping of fields, not 'x'"),
        ({"method": "nesycd-paper", "training": 5}, "spec.training", "must be a mapping of fields, not 5"),
        (
            {"method": "nesycd-no-ap", "training": {"weights": [1]}},
            "spec.training.weights",
            "must be a mapping of fields",
        ),
        ({"method": "nesycd-k1", "knowledge": None}, "spec.knowledge", "must be a mapping of fields, not None"),
        ({"knowledge": {"mode": "bm26"}}, "spec.knowledge.mode", "'bm25'"),
        ({"evaluate": {"conditions": ["general", "general"]}}, "spec.evaluate.conditions", "twice"),
        ({"evaluate": {"max_new_tokens": 2049}}, "spec.evaluate.max_new_tokens", "less than or equal to 2048"),
        ({"training": {"warmup": 1}}, "spec.training.warmup", "less than 1"),
        ({"student": {"base_model": "../x"}}, "spec.student.base_model", "not valid"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], place: str, says: str) -> None:
    found = problems({**LEAST, **change})
    assert list(found) == [place]
    assert says in found[place]


def test_all_problems_are_told_at_once() -> None:
    assert set(problems({"name": 3, "extra": 1, "data": {"train": "a", "tests": "b"}})) == {
        "spec.name", "spec.extra", "spec.data.test", "spec.data.tests",
    }  # fmt: skip


def test_whole_numbers_of_a_protobuf_struct_are_whole_numbers() -> None:
    sent = {**LEAST, "seed": 7, "training": {"lora": {"rank": 8}, "warmup": 0}}
    struct = json_format.ParseDict(sent, struct_pb2.Struct())
    spec = parse(json_format.MessageToDict(struct))
    assert (spec.seed, spec.training.lora.rank, spec.training.warmup) == (7, 8, 0)


def test_rounds_repeat_from_diagnose_and_each_ends_with_a_validation() -> None:
    stages = [f"{stage} {number}" for stage, number in parse({**LEAST, "rounds": 2}).plan()]
    assert stages == [
        "prepare 1", "rationalize 1", "train-general 1", "diagnose 1", "extract 1", "train-augmented 1", "validate 1",
        "diagnose 2", "extract 2", "train-augmented 2", "validate 2", "evaluate 2", "publish 2",
    ]  # fmt: skip


@pytest.mark.parametrize("method", all_methods())
@pytest.mark.parametrize("change", [{}, {"rounds": 2}, {"knowledge": {"utility": {"rows": 50}}}])
def test_the_spec_alone_decides_whether_rows_are_held_out_and_a_method_without_rounds_has_one(
    change: dict[str, Any], method: str
) -> None:
    spec = parse({**LEAST, **change, "method": method, "data": {**LEAST["data"], "passages": "p.txt"}})
    assert spec.holds_out == bool(change)
    assert {number for _, number in spec.plan()} == (
        {1, 2} if all_methods()[method].rounds and "rounds" in change else {1}
    )


def test_nothing_is_validated_where_there_is_one_round_and_no_entry_is_measured() -> None:
    assert "validate" not in [stage for stage, _ in parse(LEAST).plan()]
    measured = parse({**LEAST, "knowledge": {"utility": {"rows": 50}}})
    assert ("validate", 1) in measured.plan()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"method": "std-cot", "evaluate": {"conditions": ["augmented"]}}, "needs the stage train-augmented"),
        ({"method": "zero-shot", "evaluate": {"conditions": ["few_shot"]}}, "needs rationales"),
        ({"evaluate": {"conditions": ["imported"]}}, "name it in data.expert"),
        ({"evaluate": {"samples": 3}}, "set evaluate.temperature"),
        ({"rounds": 2, "data": {**LEAST["data"], "held_out": 0}}, "set it above 0"),
        ({"knowledge": {"kinds": []}}, "at least one"),
        ({"diagnose": {"folds": 1}}, "2 or more"),
    ],
)
def test_what_a_method_or_the_data_cannot_do_is_refused_with_what_is_lacking(spec: dict[str, Any], says: str) -> None:
    (sentence,) = problems({**LEAST, **spec}).values()
    assert says in sentence


def test_conditions_are_the_methods_own_or_those_named_with_the_one_that_they_follow() -> None:
    assert parse(LEAST).conditions() == ["zero_shot", "general", "augmented", "shuffled", "edited"]
    expert = {**LEAST, "data": {**LEAST["data"], "expert": "e.jsonl"}}
    assert parse(expert).conditions()[-2:] == ["imported", "edited"]
    assert parse({**LEAST, "evaluate": {"conditions": ["edited", "general"]}}).conditions() == [
        "general",
        "augmented",
        "edited",
    ]


def test_every_method_ends_with_a_report() -> None:
    assert [stage for stage, _ in parse({**LEAST, "method": "zero-shot"}).plan()] == ["prepare", "evaluate", "publish"]


@pytest.mark.parametrize("run_id", ["", "a b", "-a", "a-", "a" * 51, "a/b", "ä"])
def test_a_bad_run_id_is_refused(run_id: str) -> None:
    with pytest.raises(InvalidArgument, match="run_id"):
        check_run_id(run_id)


@pytest.mark.parametrize("method", all_methods())
def test_the_first_training_of_every_method_is_the_general_phase_and_only_a_second_one_the_augmented(
    method: str,
) -> None:
    spec = parse({**LEAST, "method": method, "data": {**LEAST["data"], "passages": "p.txt"}})
    phases = [spec.phase(stage) for stage, _ in spec.plan() if stage in TRAINING_STAGES]
    assert phases == [spec.training.general, spec.training.augmented][: len(phases)]


@pytest.mark.parametrize("method", ["kard", "ka-ft"])
def test_baselines_that_read_passages_do_so_for_every_row_whatever_is_said_of_entries(method: str) -> None:
    knowledge = parse(
        {**LEAST, "method": method, "data": {**LEAST["data"], "passages": "p.txt"},
         "knowledge": {"for_training": "own", "kinds": ["summary"], "gate": 0.9, "top_k": 1, "mode": "hybrid"}}
    ).knowledge  # fmt: skip
    assert (knowledge.for_training, knowledge.kinds, knowledge.gate) == ("leave_one_out", ["summary", "fact"], 0.0)
    assert (knowledge.top_k, knowledge.mode) == (3, "bm25")


def test_the_published_variant_searches_words_only() -> None:
    assert parse({**LEAST, "method": "nesycd-published"}).knowledge.mode == "bm25"
