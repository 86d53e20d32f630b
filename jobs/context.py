"""What a stage is given: its run, its inputs, its folder, the services; and how it tells how far it is and learns to stop."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from nesycd.teacher.v1 import GetUsageRequest

from jobs.artifacts import Artifacts, StageFolder
from jobs.clients import Services
from jobs.settings import Settings
from jobs.spec import RunSpec
from jobs.state import SUCCEEDED, RunStore
from jobs.watchdog import Watchdog
from method.methods.base import ROUND_STAGES

STOPPING = threading.Event()
"""Set when this worker was told to stop (SIGTERM): stages save what they have and hand back."""

_LEAST_SECONDS_BETWEEN = 0.5


class RunCancelled(Exception):
    """The run is to stop."""


class HandBack(Exception):
    """This worker is to stop; another goes on with the stage."""


class LeaseLost(Exception):
    """Another worker has the run. Nothing may be written any more."""


class FolderLost(LeaseLost):
    """Another run writes the stage's folder. Nothing may be written into it any more; the run is this worker's still."""


class Lease:
    """Keeps a run's lease, and the right to write a stage folder, while a stage runs, in a thread.

    After an outage of Redis that was longer than a lease, others may have taken either: then nothing is written before
    Redis has said that they have not.
    """

    def __init__(self, store: RunStore, run_id: str, token: str) -> None:
        self.store, self.run_id, self.token = store, run_id, token
        self.digest = ""
        """Of the stage folder that it has the right to write."""
        self._lost: type[LeaseLost] | None = None
        self._held_until = 0.0
        self._asking = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{run_id}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._done.set()
        self._thread.join()  # else it could take the folder again that is given back here
        if self.digest:
            self.store.unlock(self.digest, self.token)

    def hold(self, digest: str, *, dead: str = "") -> str:
        """Takes the right to write a stage folder, and keeps it from then on.

        Args:
            digest: The folder's.
            dead: A token whose worker is known to be gone.

        Returns:
            "", or the token of another worker that has it.
        """
        with self._asking:
            other = self.store.lock(digest, self.token, dead=dead)
            if not other:
                self.digest, self._held_until = digest, 0.0
        return other

    @property
    def certain(self) -> bool:
        """Whether nobody else can have the run or the folder by now, as far as is known without asking Redis."""
        return self._lost is None and time.monotonic() < self._held_until

    def check(self) -> None:
        """Returns when this worker has the run, and the folder that it held, for certain.

        Raises:
            LeaseLost: Another worker has the run, or it is over.
            FolderLost: Another run has the folder.
        """
        if self._lost is None and not self.certain:
            self._ask()
        if self._lost is not None:
            raise self._lost(self.run_id)

    def _ask(self) -> None:
        with self._asking:
            began = time.monotonic()
            if not self.store.renew(self.run_id, self.token):
                self._lost = LeaseLost
            elif self.digest and self.store.lock(self.digest, self.token):
                self._lost = FolderLost
            else:
                self._held_until = began + self.store.lease_ms / 1000

    def _renew(self) -> None:
        while not self._done.wait(self.store.lease_ms / 3000) and self._lost is not LeaseLost:
            try:
                if self._lost is FolderLost:
                    self.store.renew(self.run_id, self.token)  # until the run is handed back
                else:
                    self._ask()
            except Exception:  # noqa: S112 - Redis is away longer than the client waits: the next round tries again
                continue


@dataclass
class Context:
    """One turn at one stage.

    Attributes:
        run_id: The run.
        stage: The stage.
        round: Its round, from 1.
        spec: The run's spec.
        settings: The worker's settings.
        store: The state of runs.
        artifacts: The artifact store.
        folder: Where the stage's output goes.
        inputs: Folders of the stages before, by name; of stages with rounds the latest.
        services: The services.
        lease: The run's lease.
        watchdog: Ends the worker where the stage tells nothing for too long.
        rounds: Folders of stages by (name, round).
        adapters: Adapters that stages made, by (name, round): `adapters/{adapter}@{version}`.
        relevant: What the stage said that it depends on.
        saved_before: What finished parts of the stage count; see `progress`.
    """

    run_id: str
    stage: str
    round: int
    spec: RunSpec
    settings: Settings
    store: RunStore
    artifacts: Artifacts
    lease: Lease
    watchdog: Watchdog
    folder: StageFolder = field(init=False)  # known once the inputs are
    inputs: dict[str, StageFolder] = field(default_factory=dict)
    rounds: dict[tuple[str, int], StageFolder] = field(default_factory=dict)
    adapters: dict[tuple[str, int], str] = field(default_factory=dict)
    relevant: dict[str, Any] = field(default_factory=dict)
    saved_before: int = 0
    services: Services = field(init=False)
    _asked: float = 0.0
    _told: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _first_done: int | None = None

    # --- names

    @property
    def run_name(self) -> str:
        """`runs/{run}`."""
        return f"runs/{self.run_id}"

    @property
    def knowledge_base_id(self) -> str:
        """The id of the knowledge base that the run fills."""
        return self.spec.knowledge.base or self.run_id

    @property
    def knowledge_base(self) -> str:
        """`knowledgeBases/{knowledge_base}`."""
        return f"knowledgeBases/{self.knowledge_base_id}"

    @property
    def general_adapter(self) -> str:
        """S_P."""
        return self.adapters["train-general", 1]

    @property
    def augmented_adapter(self) -> str:
        """S_E of the latest round."""
        return self.adapters[
            "train-augmented", max(number for stage, number in self.adapters if stage == "train-augmented")
        ]

    @property
    def best_augmented_adapter(self) -> str:
        """S_E of the round that did best on the held-out rows, the earliest of several; of the latest one without any."""
        told = {
            number: folder.manifest() or {} for (stage, number), folder in self.rounds.items() if stage == "validate"
        }
        if not any(manifest.get("n") for manifest in told.values()):
            return self.augmented_adapter
        best = max(told, key=lambda number: (told[number]["accuracy"], -number))
        return self.adapters["train-augmented", best]

    def skip_rounds(self, why: str) -> None:
        """Leaves the rounds after this one out. Done again it changes nothing."""
        for stage, number in self.spec.plan():
            if number > self.round and stage in ROUND_STAGES:
                fields = {"state": SUCCEEDED, "skipped": "1", "note": f"skipped: {why}"}
                if not self.store.progress(self.run_id, stage, number, self.lease.token, fields):
                    self.check()

    # --- stopping

    def check(self) -> None:
        """Raises where the stage is to stop. Called between rows and steps; asks Redis twice a second at most."""
        self.watchdog.beat()
        self.lease.check()
        if STOPPING.is_set():
            raise HandBack(self.run_id)
        now = time.monotonic()
        if now - self._asked >= _LEAST_SECONDS_BETWEEN:
            self._asked = now
            if self.store.cancelled(self.run_id):
                raise RunCancelled(self.run_id)

    def should_stop(self) -> bool:
        """Whether the stage is to save what it has and stop.

        Raises:
            LeaseLost: It is to stop and save nothing.
        """
        try:
            self.check()
        except (HandBack, RunCancelled):
            return True
        return False

    # --- telling

    def progress(
        self, done: int, total: int, *, unit: str = "rows", loss: float | None = None, seconds_left: float | None = None,
        note: str = "", saved: int | None = None, force: bool = False,
    ) -> None:  # fmt: skip
        """Tells how far the stage is.

        Args:
            done: Rows or steps done.
            total: Of how many.
            unit: "rows" or "steps".
            loss: Training loss.
            seconds_left: What it takes still; None: reckoned from the rows of this turn.
            note: For people.
            saved: How much would survive a kill now, in any growing measure; growth counts attempts anew. What finished
                parts of the stage count is added.
            force: Tell it though something was told just before.
        """
        self.watchdog.beat()
        now = time.monotonic()
        if not force and saved is None and done < total and now - self._told < _LEAST_SECONDS_BETWEEN:
            return
        self._told = now
        if self._first_done is None:
            self._first_done, self._began = done, now
        if seconds_left is None and done > self._first_done and total:
            seconds_left = (total - done) * (now - self._began) / (done - self._first_done)
        fields: dict[str, Any] = {"done": done, "total": total, "unit": unit, "note": note}
        if loss is not None:  # the last one stays
            fields["loss"] = f"{loss:.6g}"
        fields["seconds_left"] = None if seconds_left is None else f"{seconds_left:.1f}"
        if saved is not None:
            fields["saved"] = self.saved_before + saved
        if not self.store.progress(self.run_id, self.stage, self.round, self.lease.token, fields):
            self.check()

    def note(self, text: str) -> None:
        """Tells something for people."""
        now = time.monotonic()
        if now - self._told >= _LEAST_SECONDS_BETWEEN:
            self._told = now
            self.store.progress(self.run_id, self.stage, self.round, self.lease.token, {"note": text})

    async def default_teacher(self) -> str:
        """What stands for the teacher that answers where the spec names no model; see GetUsageResponse."""
        request = GetUsageRequest(run=self.run_name)
        return (await self.services.call(self.services.teacher.GetUsage, request, what="teacher")).default_teacher

    async def usage(self) -> dict[str, float]:
        """What the teacher cost in this stage so far; brings the run's sums up to date.

        Returns:
            cost_usd, prompt_tokens, completion_tokens, calls.
        """
        response = await self.services.call(
            self.services.teacher.GetUsage, GetUsageRequest(run=self.run_name), what="teacher"
        )
        total = response.total
        now = {
            "cost_usd": total.cost_usd, "prompt_tokens": total.prompt_tokens, "completion_tokens": total.completion_tokens,
            "calls": sum(row.calls for row in response.rows),
        }  # fmt: skip
        # Kept from the first attempt on, so that what was paid before a kill counts too.
        before = self.store.once(self.run_id, self.stage, self.round, "usage", now)
        spent = {key: max(0, now[key] - before[key]) for key in now}
        tokens = total.prompt_tokens + total.completion_tokens
        self.store.annotate(self.run_id, cost_usd=float(total.cost_usd), teacher_tokens=tokens)
        fields = {"cost_usd": spent["cost_usd"], "tokens": spent["prompt_tokens"] + spent["completion_tokens"]}
        self.store.progress(self.run_id, self.stage, self.round, self.lease.token, fields)
        return spent
