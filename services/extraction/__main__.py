"""`python -m services.extraction`: starts the extraction service."""

from __future__ import annotations

from nesycd.extraction.v1 import DESCRIPTOR, add_ExtractionServiceServicer_to_server
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.teacher.v1 import TeacherServiceStub

from services.common.channel import connect
from services.common.server import Service, run, serve
from services.extraction.extractor import Extractor
from services.extraction.servicer import ExtractionServicer
from services.extraction.settings import Settings


async def main() -> None:
    """Serves until SIGTERM."""
    settings = Settings()
    teacher = connect(settings.teacher_address, **settings.peer_options())
    knowledge = connect(settings.knowledge_address, **settings.peer_options())
    extractor = Extractor(
        TeacherServiceStub(teacher),
        KnowledgeServiceStub(knowledge),
        max_attempts=settings.max_attempts,
        concurrency=settings.concurrency,
        max_tokens=settings.max_tokens,
        call_timeout_seconds=settings.call_timeout_seconds,
    )

    async def close() -> None:
        await teacher.close()
        await knowledge.close()

    service = Service(
        name="nesycd.extraction.v1.ExtractionService",
        descriptor=DESCRIPTOR,
        add=add_ExtractionServiceServicer_to_server,
        servicer=ExtractionServicer(extractor),
    )
    await serve(settings, [service], close=close)


if __name__ == "__main__":
    run(main)
