"""Stage extract: whose knowledge base the entries are in."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nesycd.extraction.v1 import BatchExtractKnowledgeResponse, ExtractKnowledgeResponse
from nesycd.knowledge.v1 import ENTRY_STATUS_DRAFT, Entry

from jobs.artifacts import Artifacts, StageFolder, write_jsonl
from jobs.spec import parse
from jobs.stages import extract
from services.common.errors import Unavailable

ROWS = [{"id": f"r{i}", "task": "count", "question": f"How many {i}?", "answer": "5"} for i in range(40)]


async def test_a_run_does_not_count_on_cases_that_a_stopped_run_put_into_another_knowledge_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = Artifacts(str(tmp_path))
    prepare, diagnose = (StageFolder(artifacts, name, "1") for name in ("prepare", "diagnose"))
    prepare.write("train.jsonl", write_jsonl(ROWS))
    diagnose.write("responses.jsonl", write_jsonl({"id": row["id"], "text": "", "correct": False} for row in ROWS))
    asked: dict[str, list[str]] = {"one": [], "two": []}

    def context(run_id: str, most: int) -> Any:
        async def batch(method: Any, messages: dict[str, Any], **_: Any) -> dict[str, Any]:
            if len(asked[run_id]) >= most:
                raise Unavailable("killed here")
            asked[run_id] += messages
            said = ExtractKnowledgeResponse(
                created=1, entries=[Entry(name="knowledgeBases/x/entries/1", status=ENTRY_STATUS_DRAFT)]
            )
            return {i: BatchExtractKnowledgeResponse(case_id=i, response=said) for i in messages}

        async def nothing(*_: Any) -> None: ...

        stub = SimpleNamespace(BatchExtractKnowledge=None)
        return SimpleNamespace(
            run_id=run_id, run_name=f"runs/{run_id}", knowledge_base=f"knowledgeBases/{run_id}",
            spec=parse({"name": "x", "data": {"train": "a", "test": "b"}}),
            inputs={"prepare": prepare, "diagnose": diagnose}, folder=StageFolder(artifacts, "extract", "1"),
            services=SimpleNamespace(batch=batch, extraction=stub), check=lambda: None,
            progress=lambda *_, **__: None, usage=nothing,
        )  # fmt: skip

    async def ensure(_: Any) -> None: ...

    async def export(_: Any) -> bytes:
        return json.dumps({"text": "It is 5."}).encode() + b"\n"

    monkeypatch.setattr(extract, "ensure_knowledge_base", ensure)
    monkeypatch.setattr(extract, "export_knowledge", export)
    with pytest.raises(Unavailable):
        await extract.run(context("one", most=32))
    told = await extract.run(context("two", most=40))
    assert (told["cases"], told["waiting"]) == (40, 1)
    assert (len(asked["one"]), len(asked["two"])) == (32, 40)
    # The first one, resumed, goes on where it was.
    await extract.run(context("one", most=40))
    assert len(asked["one"]) == 40
