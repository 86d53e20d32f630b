"""The Celery tasks: ``nesycd.run`` submits a run, ``nesycd.stage`` does one stage of it."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from celery import signals

from jobs import state
from jobs.app import RUN_TASK, STAGE_TASK, app, send_stage
from jobs.context import STOPPING
from jobs.recovery import RecoveryThread
from jobs.settings import Settings
from jobs.spec import check_run_id, new_run_id, parse, run_exists
from services.common import logs
from services.common.devices import check_device
from services.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument

log = logs.get_logger("nesycd.tasks")


@cache
def settings() -> Settings:
    """The worker's settings, read once."""
    return Settings()


@cache
def store() -> state.RunStore:
    """The state of runs."""
    own = settings()
    client = state.connect(own.redis_url, patience=max(60.0, own.patience_seconds))
    return state.RunStore(client, lease_seconds=own.lease_seconds, max_attempts=own.max_attempts)


send = partial(send_stage, app)


def submit(run_store: state.RunStore, spec: dict[str, Any], run_id: str) -> state.RunRecord:
    """Checks a spec and makes the record of its run, if it is not there; the caller sends the stage.

    Raises:
        InvalidArgument: The spec or the id is wrong.
        AlreadyExists: Reason RUN_EXISTS; a run with another spec has the id.
    """
    parsed = parse(spec)
    outcome, known = run_store.create(check_run_id(run_id), parsed.dump(), parsed.plan())
    record = run_store.get(known)
    assert record is not None
    if outcome == "EXISTS" and parse(record.spec) != parsed:
        raise run_exists(known)
    return record


@app.task(name=RUN_TASK, bind=True)
def run(self: Any, spec: dict[str, Any], run_id: str | None = None) -> dict[str, str]:
    """Submits a run. Delivered twice it makes one run: its id comes from the caller, or from the task.

    Args:
        spec: The run spec.
        run_id: The run's id; None: made from the spec's name and the task's id, whatever that looks like.

    Returns:
        ``{"run": "runs/<id>"}``; the run itself goes on in the background.

    Raises:
        ValueError: The spec is wrong; the message names each place. Or a run with another spec has the id.
    """
    try:
        record = submit(store(), spec, run_id or new_run_id(parse(spec).name, self.request.id))
    except (InvalidArgument, AlreadyExists) as error:
        raise ValueError(error.message) from None  # a class that every Celery client can read back
    if not record.over:
        send(record.id, record.stage, record.round)
    log.info("run_submitted", run=record.id, state=record.state)
    return {"run": f"runs/{record.id}"}


@app.task(name=STAGE_TASK, ignore_result=True)
def stage(run_id: str, stage: str, round: int = 1) -> str:
    """Does one stage of a run, and sends the next one. A second delivery does nothing."""
    from jobs.worker import execute

    return execute(settings(), store(), run_id, stage, round, send)


@signals.setup_logging.connect
def _logging(**_: Any) -> None:
    logs.configure(settings().log_level)


@signals.worker_init.connect
def _find_gpu(**_: Any) -> None:
    """Ends a worker that is to train on a GPU and finds none, before it takes a stage from one that has one."""
    try:
        check_device(settings().device, "NESYCD_JOBS_DEVICE")
    except FailedPrecondition as error:
        # Celery logs exceptions of signals and goes on.
        raise SystemExit(f"cannot start: {error.message}") from None


@signals.worker_ready.connect
def _look_after_runs(**_: Any) -> None:
    RecoveryThread(store(), send, settings().recover_seconds).start()


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    STOPPING.set()
