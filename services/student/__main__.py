"""Starts the student service: `python -m services.student`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

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
from services.student.engines.base import Completer, Model
from services.student.models import base_digest, local_digest, locate
from services.student.registry import Registry
from services.student.retrieval import KnowledgeClient
from services.student.servicer import Core, StudentServicer
from services.student.settings import Settings

if TYPE_CHECKING:
    from services.student.engines.transformers import TransformersEngine

NAME = "nesycd.student.v1.StudentService"
_log = logs.get_logger("student")


async def main() -> None:
    """Serves until it is told to stop. Calls are let in once the model and the adapters are loaded."""
    settings = Settings()
    service, ready, close = assemble(settings)
    await serve(settings, [service], ready=ready, close=close)


def assemble(settings: Settings) -> tuple[Service, Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
    """The service; what loads the model and the adapters; and what closes all that was opened."""
    core = Core(
        base_model=settings.base_model,
        max_batch=settings.max_batch,
        batch_idle_seconds=settings.batch_idle_seconds,
        max_new_tokens=settings.max_new_tokens,
    )
    closing = AsyncExitStack()

    async def ready() -> None:
        channel = None
        if settings.knowledge_address:
            channel = connect(settings.knowledge_address, **settings.peer_options())
            closing.push_async_callback(channel.close)
        start = _start_local if settings.engine == "transformers" else _start_remote
        model, completer, core.adapters = await start(settings, closing)
        await core.adapters.restore(settings.state_dir / "state.json")
        closing.push_async_callback(_end, asyncio.create_task(core.adapters.follow(settings.registry_poll_seconds)))
        core.answering = Answering(model, completer, core.adapters, KnowledgeClient(channel))

    service = Service(NAME, student_pb2.DESCRIPTOR, add_StudentServiceServicer_to_server, StudentServicer(core))
    return service, ready, closing.aclose


async def _start_local(settings: Settings, closing: AsyncExitStack) -> tuple[Model, Completer, Adapters]:
    """Loads the model into this process, and feeds it until `closing` ends."""
    folder = await asyncio.to_thread(
        locate, settings.base_model, settings.base_model_dir, settings.artifacts_url, settings.state_dir
    )
    digest = await asyncio.to_thread(base_digest, folder)
    # One thread computes: torch keeps its number of threads by the thread that set it.
    executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
    closing.callback(executor.shutdown, wait=False, cancel_futures=True)

    def load() -> TransformersEngine:
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

    engine = await asyncio.get_running_loop().run_in_executor(executor, load)
    batcher = Batcher(engine, executor, max_batch=settings.max_batch, window_seconds=settings.batch_window_ms / 1000)
    feeding = asyncio.create_task(batcher.run())
    closing.push_async_callback(_end, feeding)
    _log.info(
        "model loaded", base_model=settings.base_model, base_digest=digest, dtype=engine.dtype, device=engine.device
    )
    return engine, batcher, Adapters(AdapterStore(settings.artifacts_url, digest), engine.prepare, _registry(settings))


async def _start_remote(settings: Settings, closing: AsyncExitStack) -> tuple[Model, Completer, Adapters]:
    """Waits for the server that writes. Only the tokenizer is loaded; the base model's weights need not be here."""
    from services.student.engines.remote import start

    engine = await start(settings, closing)
    digest = await asyncio.to_thread(local_digest, settings.base_model, settings.base_model_dir, settings.artifacts_url)
    _log.info("the server answers", base_model=settings.base_model, base_digest=digest, engine=settings.engine)
    store = AdapterStore(settings.artifacts_url, digest, settings.base_model)
    return engine, engine, Adapters(store, engine.prepare, _registry(settings), engine.release)


def _registry(settings: Settings) -> Registry:
    artifacts = settings.artifacts_url.rstrip("/")
    shared = f"{artifacts}/students/{settings.base_model}" if artifacts else ""
    return Registry(settings.registry_url or shared)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    run(main)
