"""The gRPC edge of the extraction service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from nesycd.extraction.v1 import (
    BatchExtractKnowledgeRequest,
    BatchExtractKnowledgeResponse,
    ExtractionServiceServicer,
    ExtractKnowledgeRequest,
    ExtractKnowledgeResponse,
)

from services.common.rows import row_status
from services.extraction.extractor import Extractor


class ExtractionServicer(ExtractionServiceServicer):
    """Hands calls to the extractor. See protos/nesycd/extraction/v1/extraction.proto."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor

    async def ExtractKnowledge(
        self, request: ExtractKnowledgeRequest, context: grpc.aio.ServicerContext
    ) -> ExtractKnowledgeResponse:
        """One hard case."""
        return await self._extractor.extract(request.hard_case, request.options)

    async def BatchExtractKnowledge(
        self, request_iterator: AsyncIterator[BatchExtractKnowledgeRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[BatchExtractKnowledgeResponse]:
        """Many hard cases, results in their order."""
        async for case_id, outcome in self._extractor.extract_all(request_iterator):
            if isinstance(outcome, ExtractKnowledgeResponse):
                yield BatchExtractKnowledgeResponse(case_id=case_id, response=outcome)
            else:
                yield BatchExtractKnowledgeResponse(case_id=case_id, error=row_status(outcome))
