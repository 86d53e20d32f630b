"""Stage train-augmented: on which rows it trains, and what its output depends on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.artifacts import Artifacts, StageFolder, write_jsonl
from jobs.spec import Phase, parse
from jobs.stages import train_augmented, train_general

ROWS = [{"id": f"r{i}", "task": "count", "question": f"How many {i}?", "answer": "5"} for i in range(4)]
SPEC: dict[str, Any] = {"name": "x", "data": {"train": "a", "test": "b", "passages": "c"}}


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path))


@pytest.fixture(autouse=True)
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Any], Phase]]:
    """The rows and the phase of each training; nothing is trained."""
    found: list[tuple[list[Any], Phase]] = []

    def train(_: Any, examples: Any, phase: Phase, **__: Any) -> dict[str, Any]:
        found.append((list(examples), phase))
        return {}

    for stage in (train_augmented, train_general):
        monkeypatch.setattr(stage, "base_model_digest", lambda _: "digest")
        monkeypatch.setattr(stage, "train_adapter", train)
    monkeypatch.setattr(train_augmented, "fitting", lambda *_: None)
    return found


def folder(artifacts: Artifacts, stage: str, number: int = 1, **files: list[dict[str, Any]]) -> StageFolder:
    made = StageFolder(artifacts, stage, str(number))
    for name, records in files.items():
        made.write(f"{name}.jsonl", write_jsonl(records))
    return made


def context(artifacts: Artifacts, spec: dict[str, Any], **rounds: StageFolder) -> Any:
    """As much of a stage's context as it needs, its rows' entries retrieved already."""
    prepare = folder(artifacts, "prepare", train=ROWS)
    reasons = folder(
        artifacts, "rationalize", rationales=[{"id": row["id"], "rationale": "One counts."} for row in ROWS]
    )
    retrieved = folder(
        artifacts, "train-augmented", retrieved=[{"id": row["id"], "entries": ["It is 5."]} for row in ROWS]
    )
    return SimpleNamespace(
        spec=parse({**SPEC, **spec}), artifacts=artifacts, folder=retrieved,
        inputs={"prepare": prepare, "rationalize": reasons}, rounds={("diagnose", int(key[1:])): made for key, made in rounds.items()},
    )  # fmt: skip


async def test_a_later_round_learns_what_was_hard_in_any_round_with_its_entries(
    artifacts: Artifacts, trained: list[tuple[list[Any], Phase]]
) -> None:
    def diagnosed(number: int, *hard: str) -> StageFolder:
        responses = [{"id": row["id"], "correct": row["id"] not in hard} for row in ROWS]
        return folder(artifacts, "diagnose", number, responses=responses)

    made = context(artifacts, {"method": "nesycd-paper"}, r1=diagnosed(1, "r0", "r1"), r2=diagnosed(2, "r1", "r2"))
    await train_augmented.run(made)
    ((examples, _),) = trained
    assert sorted(example.row_id for example in examples if example.kind == "AD") == ["r0", "r1", "r2"]


@pytest.mark.parametrize("method", ["kard", "ka-ft"])
async def test_a_baseline_that_trains_once_learns_as_long_and_as_fast_as_the_others_first_training(
    method: str, artifacts: Artifacts, trained: list[tuple[list[Any], Phase]]
) -> None:
    training = {
        "general": {"epochs": 10, "learning_rate": 0.002, "batch_size": 32},
        "augmented": {"epochs": 3, "learning_rate": 0.0002, "batch_size": 8},
    }
    baseline, usual = context(artifacts, {"method": method, "training": training}), context(artifacts, {"method": "std-cot", "training": training})  # fmt: skip
    await train_augmented.run(baseline)
    await train_general.run(usual)
    assert [phase for _, phase in trained] == [Phase(**training["general"])] * 2
    assert train_augmented.relevant(baseline)["phase"] == train_general.relevant(usual)["phase"] == training["general"]


def test_how_long_an_answer_may_be_does_not_decide_what_is_trained(artifacts: Artifacts) -> None:
    short, long = (context(artifacts, {"method": "kard", "evaluate": {"max_new_tokens": most}}) for most in (80, 256))
    assert train_augmented.relevant(short) == train_augmented.relevant(long)
