"""What students keep of a run that was published, and of one that ended before it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jobs import worker
from jobs.context import HandBack, RunCancelled
from jobs.settings import Settings
from jobs.stages import publish
from jobs.state import RunRecord, StageRecord
from services.common.errors import FailedPrecondition, NesycdError, NotFound, Unavailable


class Student:
    """A student with what it has loaded; an alias of somebody's stands for S_P."""

    def __init__(self) -> None:
        self.student: Any = SimpleNamespace(UnloadAdapter="unload", LoadAdapter="load", SetAlias="alias")
        self.loaded = {"adapters/r-general@1", "adapters/r@1", "adapters/r@2", "adapters/other@1"}
        self.failure: NesycdError | None = None
        self.told: list[str] = []

    async def call(self, method: str, request: Any, **_: Any) -> None:
        self.told.append(method)

    async def once(self, method: str, request: Any) -> None:
        self.told.append(method)
        if self.failure:
            raise self.failure
        if request.adapter == "adapters/r-general@1":
            raise FailedPrecondition("aliases/cot stands for it", reason="ADAPTER_IN_USE")
        if request.adapter not in self.loaded:
            raise NotFound("not loaded", reason="ADAPTER_NOT_LOADED")
        self.loaded.remove(request.adapter)

    async def __aenter__(self) -> Student:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def context(self) -> Any:
        adapters = {
            ("train-general", 1): "adapters/r-general@1", ("train-augmented", 1): "adapters/r@1", ("train-augmented", 2): "adapters/r@2",
        }  # fmt: skip
        return SimpleNamespace(
            adapters=adapters, inputs={}, run_id="r", folder=SimpleNamespace(uri="file://x"), services=self,
            progress=lambda *_, **__: None, store=SimpleNamespace(annotate=lambda *_, **__: self.told.append("report")),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("alias", "kept"), [("aliases/mine", {"adapters/r@1"}), ("", set())], ids=["an alias", "no alias"]
)
async def test_of_a_run_the_student_keeps_what_an_alias_stands_for_and_nothing_else(alias: str, kept: set[str]) -> None:
    student = Student()
    for _ in range(2):
        await publish.settle(student.context(), {"adapter": "adapters/r@1", "alias": alias})
        assert student.loaded == {"adapters/r-general@1", "adapters/other@1", *kept}


async def test_a_student_that_is_away_is_asked_once_and_keeps_no_run_from_its_report() -> None:
    student = Student()
    student.failure = Unavailable("away")
    await publish.settle(student.context(), {"adapter": "adapters/r@1", "alias": ""})
    assert student.told == ["report", "unload"]


class Store:
    """A run that is at its last attempt at a stage."""

    max_attempts, lease_ms = 3, 30_000

    def __init__(self) -> None:
        self.ended = ""

    def owner(self, run_id: str) -> str:
        return ""

    def take(self, *_: Any, **__: Any) -> str:
        return "TAKEN"

    def get(self, run_id: str) -> RunRecord:
        trained = StageRecord("train-augmented", adapter="adapters/r@1")
        return RunRecord(run_id, {}, "RUNNING", stages=[trained, StageRecord("evaluate")])

    def renew(self, *_: Any) -> bool:
        return True

    def strikes(self, *_: Any) -> int:
        return 3

    def end_stage(self, *_: Any, **__: Any) -> bool:
        self.ended = str(_[4])
        return True


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize(
    ("failure", "outcome", "kept"),
    [(RunCancelled("r"), "CANCELLED", False), (ValueError("a defect"), "FAILED", False), (HandBack("r"), "HANDBACK", True)],
)  # fmt: skip
def test_a_student_keeps_nothing_of_a_run_that_failed_or_was_cancelled_and_all_of_one_that_goes_on(
    failure: Exception, outcome: str, kept: bool, away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, store = Student(), Store()
    student.failure = Unavailable("away") if away else None

    async def fail(settings: Any, store: Any, record: Any, stage: str, round_: int, lease: Any, watchdog: Any) -> None:
        lease.check()
        raise failure

    monkeypatch.setattr(worker, "_run_stage", fail)
    monkeypatch.setattr(worker, "Services", lambda settings: student)
    worker.execute(Settings(), store, "r", "evaluate", 1, lambda *_: None)  # type: ignore[arg-type]
    assert store.ended == outcome
    assert ("adapters/r@1" in student.loaded) == (kept or away)
