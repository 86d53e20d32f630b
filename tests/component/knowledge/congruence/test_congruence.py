"""Every behaviour of the contract, on both back-ends: the same answers, the same errors.

A case is `async def case_...(kb: Base)` in a module cases_*.py; it also says what must come out, so that two back-ends
that are wrong alike do not pass. Modules with `VECTORS = True` run where there is an embedder.
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from nesycd.knowledge.v1 import KnowledgeServiceStub

from tests.component.knowledge.congruence.backends import SCORE_TOLERANCE, Backend, Base, differences
from tests.component.knowledge.congruence.conftest import stores
from tests.weaviate import WeaviateServer

Case = Callable[[Base], Awaitable[None]]


def _cases(vectors: bool) -> list[object]:
    found = []
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        module = importlib.import_module(f"tests.component.knowledge.congruence.{path.stem}")
        if getattr(module, "VECTORS", False) is vectors:
            for name, case in vars(module).items():
                if name.startswith("case_"):
                    found.append(
                        pytest.param(case, id=f"{path.stem.removeprefix('cases_')}-{name.removeprefix('case_')}")
                    )
    return found


def test_the_comparison_notices_what_differs_and_nothing_else() -> None:
    def found(*scores: float, text: str = "x", **entry: object) -> dict[str, object]:
        results = [
            {"entry": {"name": f"e{i}", "text": text, **entry}, "score": score} for i, score in enumerate(scores)
        ]
        return {"results": results, "version": "VERSION"}

    one = found(3.0, 2.0, 1.0)
    assert not differences(one, found(3.0001, 2.0, 1.0))
    assert differences(one, found(3.1, 2.0, 1.0))
    assert differences(one, found(3.0, 2.0))
    assert differences(one, found(3.0, 2.0, 1.0, text="y"))
    assert differences(one, found(3.0, 2.0, 1.0, counters={"used": "1"}))
    turned = {**one, "results": [one["results"][1], one["results"][0], one["results"][2]]}
    assert differences(one, turned)
    tied = found(2.0, 2.0, 1.0)
    assert not differences(tied, {**tied, "results": [tied["results"][1], tied["results"][0], tied["results"][2]]})
    assert differences([1, {"a": "b"}], [1, {"a": "c"}]) and differences({"a": 1}, {}) and differences([1], [1, 2])
    assert not differences({"code": "ABORTED", "details": []}, {"code": "ABORTED", "details": []})


def test_weaviate_takes_part(weaviate_server: WeaviateServer) -> None:
    """Says in the report whether the cases were compared, or run on the embedded store alone."""
    assert "weaviate" in stores()


async def _compare(case: Case, backends: list[Backend]) -> None:
    kb = f"c{uuid.uuid4().hex[:12]}"
    observations = {}
    for backend in backends:
        async with grpc.aio.insecure_channel(backend.process.address) as channel:
            base = Base(kb, backend, KnowledgeServiceStub(channel))
            await base.make(knowledge_base={"title": "A case"})
            await case(base)
            observations[backend.name] = base.seen
    assert all(observations.values()), "the case observed nothing"
    one, *others = observations.values()
    for other in others:
        found = differences(one, other, getattr(case, "tolerance", SCORE_TOLERANCE))
        assert not found, f"{' and '.join(observations)} differ:\n" + "\n".join(found[:20])


@pytest.mark.parametrize("case", _cases(vectors=False))
async def test_both_stores_answer_alike(case: Case, backends: list[Backend]) -> None:
    await _compare(case, backends)


@pytest.mark.parametrize("case", _cases(vectors=True))
async def test_both_stores_answer_alike_with_vectors(case: Case, vector_backends: list[Backend]) -> None:
    await _compare(case, vector_backends)
