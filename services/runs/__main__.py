"""`python -m services.runs`: starts the runs service."""

from __future__ import annotations

import asyncio
from functools import partial

from nesycd.runs.v1 import DESCRIPTOR, add_RunServiceServicer_to_server
from prometheus_client import REGISTRY

from jobs import state
from jobs.app import make_app, send_stage
from jobs.artifacts import Artifacts
from jobs.recovery import RecoveryThread
from jobs.settings import Settings as JobsSettings
from services.common.logs import get_logger
from services.common.server import Service, run, serve
from services.runs.metrics import RunMetrics
from services.runs.servicer import RunServicer
from services.runs.settings import Settings

log = get_logger("nesycd.runs")


async def main() -> None:
    """Serves until SIGTERM."""
    settings = Settings()
    app = make_app(JobsSettings(redis_url=settings.redis_url))
    app.conf.task_publish_retry_policy = {
        "max_retries": 3,
        "interval_start": 0.1,
        "interval_step": 0.3,
        "interval_max": 1.0,
    }
    client = state.connect(settings.redis_url, patience=settings.patience_seconds)
    store = state.RunStore(client, lease_seconds=settings.lease_seconds)
    send = partial(send_stage, app)
    REGISTRY.register(RunMetrics(store))
    recovery = RecoveryThread(store, send, settings.recover_seconds)
    servicer = RunServicer(
        store,
        send,
        Artifacts(settings.artifacts_url),
        prices=settings.teacher_prices,
        watch_seconds=settings.watch_seconds,
    )

    async def ready() -> None:
        while True:
            try:
                await asyncio.to_thread(client.ping)
                break
            except Exception as error:
                log.warning("redis_away", error=type(error).__name__)
                await asyncio.sleep(1)
        recovery.start()

    async def close() -> None:
        recovery.stop()
        servicer.close()

    service = Service(
        name="nesycd.runs.v1.RunService",
        descriptor=DESCRIPTOR,
        add=add_RunServiceServicer_to_server,
        servicer=servicer,
    )
    await serve(settings, [service], ready=ready, close=close)


if __name__ == "__main__":
    run(main())
