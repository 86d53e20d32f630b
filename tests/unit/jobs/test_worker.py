"""One turn at a stage: what is tried again, what is tidied up, and what is given back when."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import worker
from jobs.artifacts import Artifacts, StageFolder
from jobs.context import Context, Lease, RunCancelled
from jobs.settings import Settings
from jobs.state import RunRecord
from services.common import errors

SPEC = {"name": "r", "data": {"train": "train.jsonl", "test": "test.jsonl"}}


class Store:
    """The state of one run, as much of it as a turn asks for."""

    max_attempts, lease_ms = 3, 30

    def __init__(self, strikes: int = 1) -> None:
        self._strikes = strikes

    def strikes(self, *_: Any) -> int:
        return self._strikes

    def progress(self, *_: Any, **__: Any) -> bool:
        return True

    def cancelled(self, run_id: str) -> bool:
        return False


@pytest.mark.parametrize(("strikes", "outcome"), [(1, "RETRY"), (2, "RETRY"), (3, "FAILED")])
def test_a_service_that_is_away_for_too_long_costs_an_attempt_and_the_last_one_ends_the_run_with_the_reason(
    strikes: int, outcome: str
) -> None:
    away = errors.Unavailable("the teacher service was away for 601 seconds", reason="TEACHER_UNAVAILABLE")
    told, error = worker._judge(away, Store(strikes), "r", "rationalize", 1)  # type: ignore[arg-type]
    assert told == outcome
    assert error == (None if outcome == "RETRY" else {
        "reason": "TEACHER_UNAVAILABLE", "message": away.message, "stage": "rationalize",
    })  # fmt: skip


def test_what_a_user_must_mend_is_not_tried_again() -> None:
    refused = errors.FailedPrecondition("the key", reason="TEACHER_KEY_REFUSED")
    assert worker._judge(refused, Store(1), "r", "rationalize", 1)[0] == "FAILED"  # type: ignore[arg-type]


def test_a_lease_takes_a_folder_no_more_once_it_gave_it_back() -> None:
    told: list[str] = []
    asking, answer = threading.Event(), threading.Event()

    class Slow(Store):
        def renew(self, *_: Any) -> bool:
            asking.set()
            return answer.wait(5)

        def lock(self, *_: Any, **__: Any) -> str:
            told.append("lock")
            return ""

        def unlock(self, *_: Any) -> None:
            told.append("unlock")

    with Lease(Slow(), "r", "token") as lease:  # type: ignore[arg-type]
        lease.hold("digest")
        assert asking.wait(5)
        threading.Timer(0.3, answer.set).start()
    lease._thread.join(5)
    assert told == ["lock", "lock", "unlock"]


class Turn:
    """A turn at a stage of the test's own, in a bucket.

    Attributes:
        copies: Where the stage had its local copies.
    """

    OWN, USES_TEACHER, CODE = False, False, ()

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url, self.scratch = f"memory://{folder.name}", folder / "scratch"
        self.copies: list[Path] = []
        self.lease = SimpleNamespace(token="t", digest="", certain=True, check=lambda: None, hold=self._hold)
        self.failure: Exception | None = None
        monkeypatch.setattr(worker.stages, "load", lambda stage: self)
        monkeypatch.setattr(worker, "stage_code_digest", lambda module: "code")

    def _hold(self, digest: str, **_: Any) -> str:
        self.lease.digest = digest
        return ""

    def relevant(self, context: Context) -> dict[str, Any]:
        return {}

    async def run(self, context: Context) -> dict[str, Any]:
        self.folder = context.folder
        context.folder.write("work/checkpoints/checkpoint-1/manifest.json", b"{}")
        context.folder.write("adapter/weights", b"w")
        self.copies = [context.folder.local("work/checkpoints"), context.folder.local("adapter")]
        if self.failure:
            raise self.failure
        return {}

    async def settle(self, context: Context, manifest: dict[str, Any]) -> None: ...

    async def go(self, store: Any = None) -> StageFolder:
        settings = Settings(artifacts_url=self.url, scratch_dir=self.scratch)
        watchdog: Any = SimpleNamespace(beat=lambda: None)
        record = RunRecord("r", SPEC, "RUNNING")
        await worker._run_stage(settings, store or Store(), record, "train-general", 1, self.lease, watchdog)  # type: ignore[arg-type]
        return self.folder


@pytest.mark.parametrize("failure", [None, RunCancelled("r"), ValueError("a defect")])
async def test_nothing_of_a_turn_stays_on_the_disk_of_a_worker_whose_artifacts_are_remote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    turn = Turn(tmp_path, monkeypatch)
    turn.failure = failure
    if failure:
        with pytest.raises(type(failure)):
            await turn.go()
    else:
        await turn.go()
    assert len(turn.copies) == 2 and not [path for path in turn.scratch.rglob("*") if path.is_file()]


async def test_copies_of_turns_that_nobody_is_at_any_more_are_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, locks = Turn(tmp_path, monkeypatch), {"at-work": "somebody", "killed": "dead worker"}

    class Locks(Store):
        def lock(self, digest: str, token: str, *, dead: str = "") -> str:
            owner = locks.get(digest, "")
            if owner in ("", token, dead):
                locks[digest], owner = token, ""
            return owner

        def unlock(self, digest: str, token: str) -> None:
            assert not (turn.scratch / "turns" / digest).exists() and locks.pop(digest) == token

    monkeypatch.setattr(worker, "is_gone", lambda token: token == "dead worker")
    kept = ["models/m/w.safetensors", "turns/at-work/stages/train-general/at-work/adapter/a"]
    for name in (*kept, "turns/killed/stages/d/a", "turns/lost/stages/d/a", "stages/train-general/d/adapter/a"):
        (turn.scratch / name).parent.mkdir(parents=True)
        (turn.scratch / name).write_text("x")
    await turn.go(Locks())
    assert sorted(str(path.relative_to(turn.scratch)) for path in turn.scratch.rglob("*") if path.is_file()) == kept
    assert locks == {"at-work": "somebody"}


async def test_copies_that_may_be_another_worker_s_by_now_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn(tmp_path, monkeypatch)
    turn.lease.certain = False
    await turn.go()
    assert all(copy.exists() for copy in turn.copies)


async def test_checkpoints_that_a_worker_left_that_was_killed_when_its_stage_was_complete_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Turn(tmp_path, monkeypatch)
    remove = Artifacts.remove
    monkeypatch.setattr(Artifacts, "remove", lambda *_: None)  # killed before it
    folder = await turn.go()
    assert folder.manifest() and folder.has("work")
    monkeypatch.setattr(Artifacts, "remove", remove)
    turn.lease.hold = lambda digest, **_: "another run's worker"
    turn.lease.digest = ""
    await turn.go()
    assert folder.has("work"), "whoever has the folder is at it still"
    turn.lease.hold = turn._hold
    await turn.go()
    assert not folder.has("work") and folder.manifest() and folder.has("adapter/weights")
