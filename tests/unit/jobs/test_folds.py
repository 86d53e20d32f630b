"""Students of folds are served for a while, and never longer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.adapters import withdraw_adapter
from jobs.artifacts import Artifacts, StageFolder
from jobs.context import HandBack, LeaseLost, RunCancelled
from jobs.rows import DataRow
from jobs.spec import parse
from jobs.stages import diagnose
from method.prompts import Row
from services.common.errors import NotFound, Unavailable

ROWS = [DataRow(Row(id=f"r{i}", task="count", question=f"How many {i}?", answer="5")) for i in range(4)]


class Fold:
    """Diagnosis in two folds, with what trains and asks in a test's hands."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = {"name": "r", "data": {"train": "a", "test": "b"}, "diagnose": {"folds": 2}}
        self.noted: list[str] = []
        store = SimpleNamespace(progress=lambda *given: self.noted.append(given[-1]["adapter"]))
        self.context: Any = SimpleNamespace(
            spec=parse(spec), run_id="r", stage="diagnose", round=1, store=store, lease=SimpleNamespace(token="t"),
            saved_before=0, folder=StageFolder(Artifacts(str(folder)), "diagnose", "d"),
        )  # fmt: skip
        self.served: set[str] = set()
        self.withdrawn: list[tuple[str, bool, bool]] = []
        self.failure: Exception | None = None
        for name in ("_answers", "offer_adapter", "withdraw_adapter"):
            monkeypatch.setattr(diagnose, name, getattr(self, name))
        monkeypatch.setattr(diagnose, "train_adapter", lambda *_, **__: {})
        monkeypatch.setattr(diagnose, "general_examples", lambda *_: [])

    async def offer_adapter(self, context: Any, adapter: str, version: int, *, place: str) -> str:
        self.served.add(adapter)
        return f"adapters/{adapter}@{version}"

    async def withdraw_adapter(self, context: Any, name: str, *, stopping: bool = False) -> None:
        counts = context.folder.has(f"work/fold-{len(self.withdrawn)}/answered.jsonl")
        self.withdrawn.append((name, stopping, counts))

    async def _answers(self, context: Any, rows: list[DataRow], adapter: str, journal: str, *, note: str) -> Any:
        if self.failure:
            raise self.failure
        return [[{"id": item.row.id, "text": "", "answer": "5", "correct": True}] for item in rows]


async def test_a_student_of_a_fold_is_withdrawn_before_the_fold_counts_as_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = Fold(tmp_path, monkeypatch)
    assert len(await diagnose._out_of_fold(fold.context, ROWS)) == 4
    assert fold.withdrawn == [("adapters/r-fold-0@1", False, False), ("adapters/r-fold-1@1", False, False)]


async def test_which_student_of_a_fold_is_served_is_known_to_whoever_ends_a_run_whose_worker_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold, killed = Fold(tmp_path, monkeypatch), KeyboardInterrupt()
    fold.failure = killed  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        await diagnose._out_of_fold(fold.context, ROWS)
    assert fold.noted == ["adapters/r-fold-0@1"] and fold.withdrawn == []
    fold.failure = None
    await diagnose._out_of_fold(fold.context, ROWS)
    assert fold.noted[1:] == ["adapters/r-fold-0@1", "adapters/r-fold-1@1", ""]


@pytest.mark.parametrize("failure", [RunCancelled("r"), Unavailable("away"), HandBack("r")])
async def test_a_student_of_a_fold_is_withdrawn_when_its_run_ends_or_waits_for_another_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    fold = Fold(tmp_path, monkeypatch)
    fold.failure = failure
    with pytest.raises(type(failure)):
        await diagnose._out_of_fold(fold.context, ROWS)
    assert fold.withdrawn == [("adapters/r-fold-0@1", True, False)]


async def test_a_student_of_a_fold_stays_where_another_worker_goes_on_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = Fold(tmp_path, monkeypatch)
    fold.failure = LeaseLost("r")
    with pytest.raises(LeaseLost):
        await diagnose._out_of_fold(fold.context, ROWS)
    assert fold.withdrawn == []


@pytest.mark.parametrize("stopping", [False, True])
async def test_an_adapter_is_withdrawn_manifest_first_so_that_a_kill_leaves_none_that_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopping: bool
) -> None:
    artifacts, told = Artifacts(str(tmp_path)), []
    for name in ("adapter_model.safetensors", "manifest.json"):
        artifacts.write(b"x", "adapters", "r-fold-0", "1", name)

    async def unload(method: str, request: Any, **_: Any) -> None:
        told.append(method)
        raise NotFound("the student was started again")

    remove = artifacts.remove

    def killed(*parts: str) -> None:
        if told.count("removed"):
            raise KeyboardInterrupt
        remove(*parts)
        told.append("removed")

    monkeypatch.setattr(artifacts, "remove", killed)
    call = {"once": unload} if stopping else {"call": unload}
    services = SimpleNamespace(student=SimpleNamespace(UnloadAdapter="unload"), **call)
    context: Any = SimpleNamespace(artifacts=artifacts, services=services)
    with pytest.raises(KeyboardInterrupt):
        await withdraw_adapter(context, "adapters/r-fold-0@1", stopping=stopping)
    assert told == ["unload", "removed"]
    assert artifacts.names("adapters", "r-fold-0", "1") == ["adapter_model.safetensors"]
