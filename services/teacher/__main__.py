"""`python -m services.teacher`: starts the proxy."""

from __future__ import annotations

from nesycd.teacher.v1 import add_TeacherServiceServicer_to_server, teacher_pb2

from services.common.server import Service, run, serve
from services.teacher.backends import make_backend
from services.teacher.proxy import Proxy
from services.teacher.servicer import Servicer
from services.teacher.settings import Settings
from services.teacher.store import Store

# How long, after the last call, paid answers may still be stored; below what the server gives `close`.
LAST_SECONDS = 4.0


async def main() -> None:
    """Reads the settings and serves until SIGTERM."""
    settings = Settings()  # type: ignore[call-arg]
    store = Store(settings.redis_url.get_secret_value(), settings.lease_seconds)
    proxy = Proxy(settings, make_backend(settings), store)
    service = Service(
        name="nesycd.teacher.v1.TeacherService",
        descriptor=teacher_pb2.DESCRIPTOR,
        add=add_TeacherServiceServicer_to_server,
        servicer=Servicer(proxy, settings),
    )
    await serve(settings, [service], ready=proxy.ready, close=lambda: proxy.close(LAST_SECONDS))


if __name__ == "__main__":
    run(main)
