"""One turn of a worker at one stage of one run: take the lease, do the stage, say what came of it, send the next one."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Callable

from jobs import stages
from jobs.adapters import unload_adapters
from jobs.artifacts import Artifacts, StageFolder, digest_of
from jobs.clients import Services, is_away
from jobs.code import stage_code_digest
from jobs.context import Context, FolderLost, HandBack, Lease, LeaseLost, RunCancelled
from jobs.heartbeat import touch
from jobs.owners import is_gone, new_token
from jobs.settings import Settings
from jobs.spec import parse
from jobs.state import CANCELLED, FAILED, RunRecord, RunStore
from jobs.watchdog import Watchdog
from services.common import errors
from services.common.logs import describe_exception, get_logger

log = get_logger("nesycd.worker")

errors.register_reason(
    "WORKER_LOST",
    "The worker died several times in the same stage without getting on.",
    "Look for what kills it, memory above all; then resume the run.",
)
errors.register_reason(
    "STAGE_STALLED",
    "A stage hung several times without getting on: it told nothing for NESYCD_JOBS_STALL_SECONDS, and its worker was ended.",
    "Look at the worker's log for where it hung; raise the setting if it only works slowly; then resume the run.",
)
errors.register_reason(
    "STAGE_FAILED",
    "A stage failed several times with an error that nobody foresaw.",
    "Look at the worker's log for the run; then resume the run.",
)

Send = Callable[[str, str, int], None]


def execute(settings: Settings, store: RunStore, run_id: str, stage: str, round_: int, send: Send) -> str:
    """Does a stage of a run, if it is this stage's turn and no other worker is at it.

    Args:
        settings: The worker's settings.
        store: The state of runs.
        run_id: The run.
        stage: The stage.
        round_: Its round.
        send: Puts (run, stage, round) into its queue.

    Returns:
        What came of it: "DONE", "CANCELLED", "FAILED", "RETRY", "HANDBACK", "LOST", or why nothing was done ("BUSY", "STALE",
        "ABSENT", "EXHAUSTED"; also "CANCELLED").
    """
    token = new_token()
    watch = Watchdog(
        settings.stall_seconds,
        lambda where: store.stalled(run_id, stage, round_, token, where),
        lambda: touch(settings.heartbeat_file),
    )
    with watch as watchdog:
        return _execute(settings, store, run_id, stage, round_, send, token, watchdog)


def _execute(
    settings: Settings,
    store: RunStore,
    run_id: str,
    stage: str,
    round_: int,
    send: Send,
    token: str,
    watchdog: Watchdog,
) -> str:
    owner = store.owner(run_id)
    taken = store.take(run_id, stage, round_, token, dead=owner if owner and is_gone(owner) else "")
    where = {"run": run_id, "stage": stage, "round": round_}
    record = store.get(run_id)
    if taken != "TAKEN":
        log.info("stage_skipped", why=taken, **where)
        if record and record.state in (CANCELLED, FAILED):  # while it waited, or its worker was gone: nobody did it yet
            asyncio.run(_unload(settings, store, run_id))
        return taken
    assert record is not None
    log.info("stage_begun", **where)
    outcome, error, following = "DONE", None, None
    with Lease(store, run_id, token) as lease:
        try:
            asyncio.run(_run_stage(settings, store, record, stage, round_, lease, watchdog))
            following = _following(store, run_id, stage, round_)
        except FolderLost:
            # The next turn waits for what the other run makes.
            log.warning("folder_lost", **where)
            outcome = "HANDBACK"
        except LeaseLost:
            log.warning("lease_lost", **where)
            return "LOST"
        except RunCancelled:
            outcome = "CANCELLED"
        except HandBack:
            outcome = "HANDBACK"
        except Exception as failure:
            outcome, error = _judge(failure, store, run_id, stage, round_)
            log.error("stage_failed", outcome=outcome, **where, **describe_exception(failure))
        finally:
            _free_memory()
        if outcome in ("CANCELLED", "FAILED") and lease.certain:  # else these may serve a worker that goes on
            asyncio.run(_unload(settings, store, run_id))
        if not store.end_stage(run_id, stage, round_, token, outcome, following=following, error=error):
            # A Redis that answered after the connection broke: the change may be there already.
            log.warning("lease_lost_at_the_end", **where)
            return "LOST"
    log.info("stage_ended", outcome=outcome, **where)
    if outcome == "DONE" and following:
        send(run_id, *following)
    elif outcome in ("HANDBACK", "RETRY"):
        if outcome == "RETRY":
            time.sleep(min(5.0, settings.lease_seconds))
        send(run_id, stage, round_)
    return outcome


def _judge(
    failure: Exception, store: RunStore, run_id: str, stage: str, round_: int
) -> tuple[str, dict[str, str] | None]:
    """Whether a failed stage is tried again. What a user must mend is not; a service that was away for too long may be back."""
    known = errors.from_exception(failure)
    strikes = store.strikes(run_id, stage, round_)
    if strikes < store.max_attempts and (known is None or is_away(known)):
        return "RETRY", None
    if known is not None:
        return "FAILED", {"reason": known.reason, "message": known.message, "stage": stage}
    return "FAILED", {
        "reason": "STAGE_FAILED",
        "message": f"stage {stage} failed {strikes} times with {type(failure).__name__}; the worker's log tells where",
        "stage": stage,
    }


async def _unload(settings: Settings, store: RunStore, run_id: str) -> None:
    """Has the student forget what the run had it load: nobody may come back to a run that failed. A resumed one loads what it needs."""
    record = store.get(run_id)
    names = {stage.adapter for stage in record.stages if stage.adapter} if record else set()
    try:
        if names:
            async with Services(settings) as services:
                await unload_adapters(services, run_id, names)
    except Exception as failure:  # the run ends all the same
        log.warning("adapters_stay_loaded", run=run_id, **describe_exception(failure))


async def _run_stage(
    settings: Settings,
    store: RunStore,
    record: RunRecord,
    stage: str,
    round_: int,
    lease: Lease,
    watchdog: Watchdog,
) -> None:
    watchdog.loop = asyncio.get_running_loop()
    module = stages.load(stage)
    artifacts = Artifacts(settings.artifacts_url, settings.scratch_dir)
    context = Context(record.id, stage, round_, parse(record.spec), settings, store, artifacts, lease, watchdog)
    for done in record.stages:
        if (done.name, done.round) == (stage, round_):
            break
        if done.skipped:
            continue
        context.rounds[done.name, done.round] = StageFolder(artifacts, done.name, done.digest)
        context.inputs[done.name] = context.rounds[done.name, done.round]
        if done.adapter:
            context.adapters[done.name, done.round] = done.adapter
    async with Services(settings, context.check, context.note) as services:
        context.services = services
        context.check()
        context.progress(0, 0, note="begins", force=True)
        relevant = module.relevant(context)
        if module.OWN:
            relevant = {**relevant, "run": record.id}
        if module.USES_TEACHER:
            # The spec may leave the model to the proxy: another teacher makes another output.
            relevant = {**relevant, "default_teacher": await context.default_teacher()}
        inputs = {f"{name}/{number}": folder.digest for (name, number), folder in context.rounds.items()}
        digest = digest_of(
            {"stage": stage, "round": round_, "code": stage_code_digest(module), "spec": relevant, "inputs": inputs}
        )
        context.folder = StageFolder(artifacts, stage, digest, before_write=lease.check)
        context.relevant = relevant
        artifacts.turn = f"turns/{digest}"
        store.progress(record.id, stage, round_, lease.token, {"digest": digest})
        await _wait_for_folder(context)
        _free_leftovers(context)
        manifest = context.folder.manifest()
        began = time.time()
        if manifest is None:
            spent = await context.usage() if module.USES_TEACHER else {}
            try:
                made = await module.run(context)
            finally:
                if lease.certain:  # else these may be the copies of a worker that goes on; the next turn frees them
                    artifacts.free()
            spent = await context.usage() if module.USES_TEACHER else {}
            seconds = time.time() - began
            manifest = {
                "run": record.id, "round": round_, "inputs": inputs, "spec": relevant, "seconds": round(seconds, 3),
                "teacher": spent, "finished": time.time(), **made,
            }  # fmt: skip
            context.folder.complete(manifest)
        else:
            if lease.digest == digest:  # nobody is at it: its worker may have been killed before it removed this
                context.folder.remove("work")
            if manifest.get("run") != record.id:
                store.progress(
                    record.id, stage, round_, lease.token, {"reused": "1", "note": f"as in run {manifest.get('run')}"}
                )
        await module.settle(context, manifest)


async def _wait_for_folder(context: Context) -> None:
    """Two runs with the same inputs: one makes the folder, the other waits and uses it."""
    lease, digest = context.lease, context.folder.digest
    while other := lease.hold(digest):
        if context.folder.manifest() is not None:
            return
        if is_gone(other):
            lease.hold(digest, dead=other)
            continue
        context.note("another run is making the same; waits for it")
        context.check()
        await asyncio.sleep(0.5)


def _free_leftovers(context: Context) -> None:
    """Removes copies of turns that were killed or lost their lease, before this one adds its own.

    A container that is started again has its scratch still: worker after worker that is killed for memory would fill it, and
    the pod be evicted. Workers on one machine may share it, so each folder is locked: whoever is at it has that lock.
    """
    artifacts, store, token = context.artifacts, context.store, context.lease.token
    for digest in artifacts.leftovers():
        other = store.lock(digest, token)
        if other and is_gone(other):
            other = store.lock(digest, token, dead=other)
        if not other:
            artifacts.free(f"turns/{digest}")
            store.unlock(digest, token)
    artifacts.free("stages")  # where versions before the folder "turns" had their copies, for ever


def _following(store: RunStore, run_id: str, stage: str, round_: int) -> tuple[str, int] | None:
    """The next stage that is not left out; the one that has just been done may have decided so."""
    record = store.get(run_id)
    assert record is not None
    plan = [(s.name, s.round) for s in record.stages]
    place = plan.index((stage, round_)) + 1
    return next(((s.name, s.round) for s in record.stages[place:] if not s.skipped), None)


def _free_memory() -> None:
    """Gives memory of the stage back to the system: models above all."""
    gc.collect()
    if torch := sys.modules.get("torch"):
        with contextlib.suppress(Exception):
            torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
