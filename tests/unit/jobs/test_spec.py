"""The run spec is checked strictly, and each problem is told in one sentence with its place."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2

from jobs.spec import check_run_id, parse
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
        ({"knowledge": {"mode": "bm26"}}, "spec.knowledge.mode", "'bm25'"),
        ({"evaluate": {"conditions": ["general", "general"]}}, "spec.evaluate.conditions", "twice"),
        ({"training": {"warmup": 1}}, "spec.training.warmup", "less than 1"),
        ({"method": "std-cot", "rounds": 2}, "spec.rounds", "one round only"),
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


def test_rounds_repeat_from_diagnose() -> None:
    stages = [f"{stage} {number}" for stage, number in parse({**LEAST, "rounds": 2}).plan()]
    assert stages == [
        "prepare 1", "rationalize 1", "train-general 1", "diagnose 1", "extract 1", "train-augmented 1", "diagnose 2",
        "extract 2", "train-augmented 2", "evaluate 2", "publish 2",
    ]  # fmt: skip


def test_every_method_ends_with_a_report() -> None:
    assert [stage for stage, _ in parse({**LEAST, "method": "zero-shot"}).plan()] == ["prepare", "evaluate", "publish"]


@pytest.mark.parametrize("run_id", ["", "a b", "-a", "a-", "a" * 51, "a/b", "ä"])
def test_a_bad_run_id_is_refused(run_id: str) -> None:
    with pytest.raises(InvalidArgument, match="run_id"):
        check_run_id(run_id)
