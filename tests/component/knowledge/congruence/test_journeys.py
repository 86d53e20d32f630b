"""What goes from one back-end to the other, and through both of them."""

from __future__ import annotations

import uuid

import grpc
from nesycd.knowledge.v1 import EXCHANGE_FORMAT_JSONL, EXCHANGE_FORMAT_MARKDOWN, KnowledgeServiceStub

from tests.component.knowledge.congruence.backends import Backend, Base
from tests.component.knowledge.congruence.cases_exchange import fill_with_everything


async def test_a_base_travels_from_store_to_store_and_back_without_loss(backends: list[Backend]) -> None:
    kb = f"j{uuid.uuid4().hex[:12]}"
    first, last = backends[0], backends[-1]
    async with (
        grpc.aio.insecure_channel(first.process.address) as one,
        grpc.aio.insecure_channel(last.process.address) as two,
    ):
        origin = Base(kb, first, KnowledgeServiceStub(one))
        await origin.make()
        await fill_with_everything(origin)
        exports = [await origin.export(format) for format in (EXCHANGE_FORMAT_JSONL, EXCHANGE_FORMAT_MARKDOWN)]
        for number, format in enumerate((EXCHANGE_FORMAT_JSONL, EXCHANGE_FORMAT_MARKDOWN)):
            there = Base(f"{kb}-{number}", last, KnowledgeServiceStub(two))
            back = Base(f"{kb}-{number}b", first, KnowledgeServiceStub(one))
            data = exports[number]
            for base in (there, back):
                await base.make()
                report = await base.import_file(data, format=format, atomic=True)
                assert (report.created, len(report.problems)) == (6, 0), report
                data = await base.export(format)
                assert data.replace(base.name.encode(), origin.name.encode()) == exports[number]
        history = [(r.author, r.entry.revision) for r in await origin.audit()]
        assert len(history) == 7
