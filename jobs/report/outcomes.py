"""A finished run as its files tell it: who answered which test row rightly, and what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

from jobs.artifacts import Artifacts, StageFolder
from jobs.figures import rates
from jobs.report.facts import effort
from jobs.state import SUCCEEDED, RunRecord
from method.methods import UnknownMethod, get_method
from services.common.errors import FailedPrecondition, register_reason

RUN_NOT_SUCCEEDED = register_reason(
    "RUN_NOT_SUCCEEDED",
    "Only runs that have succeeded can be compared.",
    "Wait for the run to end, resume it where it failed, or leave it out.",
)
RUN_FILES_MISSING = register_reason(
    "RUN_FILES_MISSING",
    "A file of a finished run is missing in the artifact store, or damaged; or the service looks into another store.",
    "Check NESYCD_RUNS_ARTIFACTS_URL; run the spec again where the files are gone.",
)
NOT_COMPARABLE = register_reason(
    "RUNS_NOT_COMPARABLE",
    "The runs did not answer the same test rows, or one of them not under its method's own condition.",
    "Compare runs with the same data.test, and leave evaluate.conditions empty.",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A test row."""

    task: str
    dataset: str
    question: str
    gold: str


@dataclass(frozen=True)
class StageCost:
    """What a stage took, in whichever run did it.

    Attributes:
        name: The stage.
        digest: Of its folder.
        reused: Another run had done it.
        seconds: How long it took.
        calls: Questions to the teacher.
        prompt_tokens: Tokens that the teacher read.
        completion_tokens: Tokens that it wrote.
        cost_usd: What it cost.
    """

    name: str
    digest: str
    reused: bool
    seconds: float
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        name: `runs/{run}`.
        spec: Its spec.
        method: Its method's name.
        title: Its method's title.
        headline: The condition that stands for the method.
        seed: Its seed.
        asked: The test rows by id.
        rates: Share of right answers by condition and row.
        effort: Mean tokens and seconds of an answer, by condition.
        stages: What each stage took.
        training_rows: Digest of the training rows; "" where there are none.
        code: Digest of the code that evaluated it; "" where that did not tell it yet.
    """

    name: str
    spec: Mapping[str, Any]
    method: str
    title: str
    headline: str
    seed: int
    asked: Mapping[str, Asked]
    rates: Mapping[str, Mapping[str, float]]
    effort: Mapping[str, Mapping[str, float]]
    stages: tuple[StageCost, ...]
    training_rows: str
    code: str

    @property
    def asks_teacher(self) -> bool:
        """Whether it asked the teacher anything."""
        return any(stage.calls for stage in self.stages)


def read_outcome(record: RunRecord, artifacts: Artifacts) -> Outcome:
    """Reads a finished run.

    Args:
        record: The run.
        artifacts: Where its files are.

    Raises:
        FailedPrecondition: It has not succeeded, its files are gone, or it did not answer under its headline condition.
    """
    name = f"runs/{record.id}"
    if record.state != SUCCEEDED:
        raise FailedPrecondition(
            f"{name} is {record.state.lower()}: only runs that have succeeded are compared",
            reason=RUN_NOT_SUCCEEDED, subject=name,
        )  # fmt: skip
    try:
        method = get_method(record.spec["method"])
    except UnknownMethod as error:
        raise FailedPrecondition(f"{name}: {error}", reason=NOT_COMPARABLE, subject=name) from None
    try:
        digest = next(stage.digest for stage in record.stages if stage.name == "evaluate")
        evaluate = StageFolder(artifacts, "evaluate", digest)
        summary = json.loads(evaluate.read("summary.json"))
        conditions = [condition for condition, part in summary["conditions"].items() if part["n"]]
        answers = {condition: evaluate.read_jsonl(f"answers.{condition}.jsonl") for condition in conditions}
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise FailedPrecondition(
            f"{name}: a file of its evaluation is missing in the artifact store, or damaged ({type(error).__name__})",
            reason=RUN_FILES_MISSING, subject=name,
        ) from None  # fmt: skip
    if method.headline not in answers:
        raise FailedPrecondition(
            f"{name} did not answer under {method.headline!r}, by which its method {method.name} is compared; "
            "run it again with evaluate.conditions empty",
            reason=NOT_COMPARABLE, subject=name,
        )  # fmt: skip
    manifests = [
        (stage, StageFolder(artifacts, stage.name, stage.digest).manifest() or {})
        for stage in record.stages
        if not stage.skipped
    ]
    evaluated = next((manifest for stage, manifest in manifests if stage.name == "evaluate"), {})
    prepared = next((manifest for stage, manifest in manifests if stage.name == "prepare"), {})
    return Outcome(
        name=name, spec=record.spec, method=method.name, title=method.title, headline=method.headline,
        seed=record.spec["seed"],
        asked={intern(row["id"]): _asked(row) for row in answers[method.headline]},
        rates={condition: rates(rows) for condition, rows in answers.items()},
        effort={condition: effort(summary["conditions"][condition]) for condition in conditions},
        stages=tuple(_cost(stage, manifest, record.id) for stage, manifest in manifests),
        training_rows=prepared.get("files", {}).get("train.jsonl", ""),
        code=evaluated.get("code", ""),
    )  # fmt: skip


def _asked(row: Mapping[str, Any]) -> Asked:
    # All runs of a comparison were asked the same: their texts are in memory once.
    return Asked(intern(row["task"]), intern(row.get("dataset", "")), intern(row["question"]), intern(row["gold"]))


def _cost(stage: Any, manifest: Mapping[str, Any], run_id: str) -> StageCost:
    teacher = manifest.get("teacher") or {}
    return StageCost(
        name=stage.name, digest=stage.digest, reused=manifest.get("run", run_id) != run_id,
        seconds=manifest.get("seconds", stage.seconds), calls=int(teacher.get("calls", 0)),
        prompt_tokens=int(teacher.get("prompt_tokens", 0)), completion_tokens=int(teacher.get("completion_tokens", 0)),
        cost_usd=float(teacher.get("cost_usd", 0.0)),
    )  # fmt: skip
