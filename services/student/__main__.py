"""Starts the student service: `python -m services.student`."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

# Before torch is loaded: threads that spin while they wait take the cores from the other processes of the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from nesycd.student.v1 import add_StudentServiceServicer_to_server, student_pb2

from services.common import logs
from services.common.channel import connect
from services.common.server import Service, StartError, run, serve
from services.student.adapters import Adapters, AdapterStore
from services.student.answering import Answering
from services.student.batching import Batcher
from services.student.models import base_digest, locate
from services.student.retrieval import KnowledgeClient
from services.student.servicer import Core, StudentServicer
from services.student.settings import Settings

NAME = "nesycd.student.v1.StudentService"
_log = logs.get_logger("student")


async def main() -> None:
    """Serves until it is told to stop. Calls are let in once the model and the adapters are loaded."""
    settings = Settings()
    core = Core(
        base_model=settings.base_model,
        max_batch=settings.max_batch,
        batch_idle_seconds=settings.batch_idle_seconds,
        max_new_tokens=settings.max_new_tokens,
    )
    # One thread computes: torch keeps its number of threads by the thread that set it.
    executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
    channel = connect(settings.knowledge_address, **settings.peer_options()) if settings.knowledge_address else None
    batching: list[asyncio.Task[None]] = []

    async def ready() -> None:
        folder = await asyncio.to_thread(
            locate, settings.base_model, settings.base_model_dir, settings.artifacts_url, settings.state_dir
        )
        digest = await asyncio.to_thread(base_digest, folder)

        def load_engine():  # type: ignore[no-untyped-def]
            from services.student.engines.transformers import TransformersEngine

            try:
                return TransformersEngine(
                    folder,
                    dtype=settings.dtype,
                    threads=settings.threads,
                    hot_adapters=settings.hot_adapters,
                    device=settings.device,
                )
            except (OSError, ValueError) as error:
                raise StartError(f"base model {settings.base_model!r} in {folder} cannot be loaded: {error}") from error

        engine = await asyncio.get_running_loop().run_in_executor(executor, load_engine)
        core.adapters = Adapters(AdapterStore(settings.artifacts_url, digest), engine.prepare, settings.state_dir)
        await core.adapters.restore()
        batcher = Batcher(
            engine, executor, max_batch=settings.max_batch, window_seconds=settings.batch_window_ms / 1000
        )
        core.answering = Answering(engine, batcher, core.adapters, KnowledgeClient(channel))
        batching.append(asyncio.create_task(batcher.run()))
        _log.info("model loaded", base_model=settings.base_model, base_digest=digest, dtype=engine.dtype)

    async def close() -> None:
        for task in batching:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if channel is not None:
            await channel.close()
        executor.shutdown(wait=False, cancel_futures=True)

    service = Service(NAME, student_pb2.DESCRIPTOR, add_StudentServiceServicer_to_server, StudentServicer(core))
    await serve(settings, [service], ready=ready, close=close)


if __name__ == "__main__":
    run(main)
