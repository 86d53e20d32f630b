"""The Celery application: ids travel, never data; one message says "look at this stage of this run".

Workers: ``celery -A jobs.app worker -P solo -Q nesycd.cpu,nesycd.gpu``. One process works at one stage at a time (``solo``), so
that SIGTERM reaches the stage itself, which then saves and hands back; scale by processes.

And one with ``-Q nesycd.runs``: it takes runs that are submitted as tasks, so that nobody waits for a stage to end. It
loads no model, and any number of them may run.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from celery import Celery
from kombu import Queue

from jobs.heartbeat import make_step
from jobs.settings import Settings
from services.common.logs import get_logger

log = get_logger("nesycd.app")
CPU_QUEUE, GPU_QUEUE, RUN_QUEUE = "nesycd.cpu", "nesycd.gpu", "nesycd.runs"
RUN_TASK, STAGE_TASK = "nesycd.run", "nesycd.stage"
GPU_STAGES = frozenset({"train-general", "diagnose", "train-augmented"})
"""Those that train; diagnose does where it asks out of fold."""
CONNECT_SECONDS = 5.0
"""Longest try of one connection to Redis."""
ANSWER_SECONDS = 10.0
"""Longest wait for an answer of a Redis that is connected: for ever otherwise, where its machine is lost without a word."""


def queue_of(stage: str) -> str:
    """The queue whose workers have what a stage needs."""
    return GPU_QUEUE if stage in GPU_STAGES else CPU_QUEUE


def route(name: str, args: Any = None, kwargs: Any = None, options: Any = None, task: Any = None, **_: Any) -> Any:
    """Celery's router: a stage goes to the queue that it needs, a submission to one where no stage is in its way."""
    if name == STAGE_TASK:
        stage = args[1] if args and len(args) > 1 else (kwargs or {}).get("stage", "")
        return {"queue": queue_of(str(stage))}
    return {"queue": RUN_QUEUE} if name == RUN_TASK else None


def verified(redis_url: str) -> str:
    """The address with the wish that the server's certificate is checked, where it is one of TLS and says nothing of that.

    Celery refuses ``rediss://`` without that wish for results, and checks no certificate for messages (its
    documentation, "Using Redis", `ssl_cert_reqs`); redis-py by itself checks.
    """
    address = urlsplit(redis_url)
    if address.scheme != "rediss" or "ssl_cert_reqs" in parse_qs(address.query):
        return redis_url
    return urlunsplit(address._replace(query="&".join(filter(None, [address.query, "ssl_cert_reqs=required"]))))


def make_app(settings: Settings) -> Celery:
    """Makes the application.

    Args:
        settings: Where Redis is, and how long things may take.
    """
    url = verified(settings.redis_url)
    app = Celery("nesycd", broker=url, backend=url, include=["jobs.tasks"], set_as_current=False)
    app.conf.update(
        # A message is gone when its work is done, not when it is begun; a worker that dies gives it back.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        task_track_started=True,
        # Stages that run long outlive a broken connection; the lease, not the broker, says whose they are.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=60.0,
        # No task_time_limit: the solo pool knows none. A stage that hangs is caught by jobs/watchdog.py.
        # Longer than the longest stage: Redis hands a message to a second worker after it (celery#5306).
        # Where Redis is gone with its address, as when all is uninstalled, a connection is tried for two minutes otherwise, and a
        # worker that is told to end does not hear of it meanwhile.
        broker_transport_options={
            "visibility_timeout": settings.stage_seconds + 3600,
            "socket_keepalive": True,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
        },
        redis_socket_connect_timeout=CONNECT_SECONDS,
        redis_socket_timeout=ANSWER_SECONDS,
        result_backend_transport_options={"retry_policy": {"timeout": 30.0}},
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry=True,
        task_publish_retry_policy={
            "max_retries": 100,
            "interval_start": 0.1,
            "interval_step": 0.3,
            "interval_max": 3.0,
        },
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        result_expires=settings.result_seconds,
        task_queues=[Queue(CPU_QUEUE), Queue(GPU_QUEUE), Queue(RUN_QUEUE)],
        task_default_queue=CPU_QUEUE,
        task_create_missing_queues=False,
        task_routes=(route,),
        worker_hijack_root_logger=False,
        enable_utc=True,
    )
    if settings.heartbeat_file is not None:
        app.steps["consumer"].add(make_step(settings.heartbeat_file))
    return app


def send_stage(app: Celery, run_id: str, stage: str, round_: int) -> None:
    """Puts a stage into its queue. Sent twice does no harm: the lease lets one delivery in.

    Where it cannot be sent now, the recovery sends it later: the run is recorded.
    """
    try:
        app.send_task(STAGE_TASK, args=[run_id, stage, round_], ignore_result=True)
    except Exception as error:
        log.warning("send_failed", run=run_id, stage=stage, error=type(error).__name__)


app = make_app(Settings())
