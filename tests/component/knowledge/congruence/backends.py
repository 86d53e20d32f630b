"""The same calls on two back-ends, and what came of them in a form that can be compared.

A case is a function that calls a `Base`. Whatever it calls is written down: request, answer, error with all its
details. What must differ from run to run is replaced by its name: times, versions, tokens, request ids.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # noqa: F401  # so that details can be shown
from grpc_status import rpc_status
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.processes import Process

SCORE_TOLERANCE = 2e-3
"""How far scores may differ, relatively: one store counts in float64, the other one in float32. Results whose scores are
as near as this have no order that must be the same."""

T = TypeVar("T")
_VARYING = {
    "create_time": "TIME", "update_time": "TIME", "version": "VERSION", "next_page_token": "TOKEN", "page_token": "TOKEN",
    "watch_token": "TOKEN", "since": "TIME",
}  # fmt: skip
_REQUEST_INFO = "type.googleapis.com/google.rpc.RequestInfo"


@dataclass
class Backend:
    """A knowledge service over one store."""

    name: str
    process: Process


@dataclass
class Base:
    """A knowledge base on one back-end, and the calls of the contract on it.

    Attributes:
        id: Its id; the same on all back-ends, so that names are the same too.
        backend: Where it is.
        stub: The service.
        seen: What was called, and what came of it.
    """

    id: str
    backend: Backend
    stub: KnowledgeServiceStub
    seen: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"knowledgeBases/{self.id}"

    def other(self, suffix: str) -> Base:
        """Another base of the same case; what it does is written down with the rest."""
        return Base(f"{self.id}{suffix}", self.backend, self.stub, self.seen)

    # -- any call

    async def call(self, method: str, request: Message | None = None, **fields: Any) -> Any:
        """Calls a method that must answer; requests without `parent` or `name` get this base."""
        request = self._request(method, request, fields)
        try:
            answer = await getattr(self.stub, method)(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            self._note(method, request, shown_error(error))
            raise AssertionError(f"{self.backend.name}: {method} failed: {shown_error(error)}") from error
        self._note(method, request, shown(answer))
        return answer

    async def fails(
        self, method: str, code: str, reason: str = "", request: Message | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Calls a method that must fail with this code and reason (none: the code's name)."""
        request = self._request(method, request, fields)
        try:
            answer = await getattr(self.stub, method)(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            told = shown_error(error)
            self._note(method, request, told)
            assert (told["code"], told["reason"]) == (code, reason or code), (self.backend.name, told)
            return told
        raise AssertionError(f"{self.backend.name}: {method} must fail with {code}, and answered {shown(answer)}")

    async def stream_fails(self, call: Any, code: str, reason: str = "") -> None:
        """Reads a stream that must end with this error before its first message."""
        try:
            message = await call.read()
        except grpc.aio.AioRpcError as error:
            told = shown_error(error)
        else:
            raise AssertionError(f"{self.backend.name}: the stream must fail with {code}, and has {message}")
        self.seen.append(["stream", told])
        assert (told["code"], told["reason"]) == (code, reason or code), (self.backend.name, told)

    def _request(self, method: str, request: Message | None, fields: dict[str, Any]) -> Message:
        if request is not None:
            return request
        kind = getattr(pb, f"{method}Request")
        for key in ("parent", "name"):
            if key in kind.DESCRIPTOR.fields_by_name and key not in fields:
                fields[key] = self.name
        return kind(**fields)

    def _note(self, method: str, request: Any, answer: Any) -> None:
        self.seen.append([method, shown(request) if isinstance(request, Message) else request, answer])

    def observe(self, what: str, value: Any) -> None:
        """Writes down anything else that must be the same everywhere."""
        self.seen.append([what, value])

    # -- calls that cases make often

    async def make(self, **fields: Any) -> pb.KnowledgeBase:
        return (await self.call("CreateKnowledgeBase", knowledge_base_id=self.id, **fields)).knowledge_base

    async def create(self, text: str, *, merge: bool = False, reviewed: bool = False, **fields: Any) -> pb.Entry:
        entry = pb.Entry(text=text, **fields)
        return (await self.call("CreateEntry", entry=entry, author="Ada", merge=merge, reviewed=reviewed)).entry

    async def fill(self, entries: Iterable[pb.Entry | str]) -> list[pb.Entry]:
        """Many entries that must come in as they are."""
        made = [pb.Entry(text=entry) if isinstance(entry, str) else entry for entry in entries]
        requests = [pb.CreateEntryRequest(entry=entry, author="Ada", reviewed=True) for entry in made]
        answer = await self.call("BatchCreateEntries", requests=requests)
        assert [result.WhichOneof("result") for result in answer.results] == ["entry"] * len(made), answer
        return [result.entry for result in answer.results]

    async def get(self, name: str) -> pb.Entry:
        return (await self.call("GetEntry", name=name)).entry

    async def update(self, name: str, *paths: str, **fields: Any) -> pb.Entry:
        options = {key: fields.pop(key) for key in ("author", "reason", "reviewed") if key in fields}
        entry = pb.Entry(name=name, **fields)
        return (await self.call("UpdateEntry", entry=entry, update_mask={"paths": paths}, **options)).entry

    async def search(self, query: str, **fields: Any) -> list[str]:
        """The texts that are found."""
        return [result.entry.text for result in (await self.call("SearchEntries", query=query, **fields)).results]

    async def texts(self, filter: str = "") -> list[str]:
        """The texts of all entries that fit."""
        answer = await self.call("ListEntries", filter=filter, page_size=1000)
        return sorted(entry.text for entry in answer.entries)

    async def feed_back(self, name: str, used: int = 0, helpful: int = 0, harmful: int = 0) -> None:
        feedback = pb.RecordFeedbackRequest.Feedback(entry=name, used=used, helpful=helpful, harmful=harmful)
        await self.call("RecordFeedback", feedback=[feedback])

    async def pages(self, method: str, part: str, **fields: Any) -> list[Any]:
        """All items of a list, page by page."""
        items: list[Any] = []
        token = ""
        while True:
            answer = await self.call(method, page_token=token, **fields)
            items += getattr(answer, part)
            token = answer.next_page_token
            if not token:
                return items

    async def import_file(self, data: bytes | str, piece: int = 1000, **options: Any) -> pb.ImportEntriesResponse:
        """Imports a file that the service takes."""
        answer = await self._import(data, piece, options)
        self._note("ImportEntries", {k: str(v) for k, v in options.items()}, shown(answer))
        return answer

    async def import_fails(self, data: bytes | str, code: str, reason: str = "", **options: Any) -> None:
        """Imports a file that the service refuses as a whole."""
        try:
            answer = await self._import(data, 1000, options)
        except grpc.aio.AioRpcError as error:
            told = shown_error(error)
            self._note("ImportEntries", {k: str(v) for k, v in options.items()}, told)
            assert (told["code"], told["reason"]) == (code, reason or code), (self.backend.name, told)
            return
        raise AssertionError(f"{self.backend.name}: the import must fail with {code}, and answered {shown(answer)}")

    async def _import(self, data: bytes | str, piece: int, options: dict[str, Any]) -> pb.ImportEntriesResponse:
        raw = data.encode() if isinstance(data, str) else data

        async def messages() -> AsyncIterator[pb.ImportEntriesRequest]:
            yield pb.ImportEntriesRequest(options={"parent": self.name, **options})
            for start in range(0, len(raw), piece):
                yield pb.ImportEntriesRequest(data=raw[start : start + piece])

        return await self.stub.ImportEntries(messages(), timeout=60)

    async def export(self, format: int = pb.EXCHANGE_FORMAT_JSONL, filter: str = "") -> bytes:
        """The base as a file."""
        request = pb.ExportEntriesRequest(parent=self.name, format=format, filter=filter)
        data = b"".join([part.data async for part in self.stub.ExportEntries(request, timeout=60)])
        self._note("ExportEntries", request, data.decode())
        return data

    async def audit(self, **fields: Any) -> list[pb.EntryRevision]:
        request = pb.ExportAuditRequest(parent=self.name, **fields)
        found = [r async for part in self.stub.ExportAudit(request, timeout=60) for r in part.revisions]
        self._note("ExportAudit", request, [shown(revision) for revision in found])
        return found

    async def batch_search(self, *requests: dict[str, Any]) -> list[pb.BatchSearchEntriesResponse]:
        async def messages() -> AsyncIterator[pb.BatchSearchEntriesRequest]:
            for number, fields in enumerate(requests):
                request = pb.SearchEntriesRequest(**{"parent": self.name, **fields})
                yield pb.BatchSearchEntriesRequest(row_id=f"row {number}", request=request)

        rows = [row async for row in self.stub.BatchSearchEntries(messages(), timeout=60)]
        self._note("BatchSearchEntries", len(requests), [shown(row) for row in rows])
        return rows

    @asynccontextmanager
    async def watching(self, token: str = "") -> AsyncIterator[Any]:
        """A watch, to be read."""
        call = self.stub.WatchEntries(pb.WatchEntriesRequest(parent=self.name, watch_token=token), timeout=60)
        try:
            yield call
        finally:
            call.cancel()


# -- what is compared


def shown(message: Message) -> Any:
    """A message as plain data, without what differs from run to run."""
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return _settled(fields)


def _settled(value: Any) -> Any:
    if isinstance(value, list):
        return [_settled(item) for item in value if not (isinstance(item, dict) and item.get("@type") == _REQUEST_INFO)]
    if isinstance(value, dict):
        return {
            key: _VARYING[key] if key in _VARYING and not isinstance(item, dict | list) else _settled(item)
            for key, item in value.items()
        }
    return value


def shown_error(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """An error with its details as plain data."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    details = shown(status)["details"] if status is not None else []
    reasons = [detail["reason"] for detail in details if detail["@type"].endswith("ErrorInfo")]
    return {
        "code": error.code().name,
        "reason": reasons[0] if reasons else "",
        "message": error.details(),
        "details": details,
    }


def scores_within(tolerance: float) -> Callable[[T], T]:
    """Marks a case whose scores may differ by more, relatively.

    Weaviate's average length, which BM25 divides by, still counts texts that were changed or removed for a while: in a
    base of a few entries that moves scores, and no order that is clear.
    """

    def mark(case: T) -> T:
        case.tolerance = tolerance  # type: ignore[attr-defined]
        return case

    return mark


def differences(one: Any, other: Any, tolerance: float = SCORE_TOLERANCE, where: str = "") -> list[str]:
    """Where two observations differ, each in a line."""
    if isinstance(one, dict) and isinstance(other, dict):
        if "results" in one and "results" in other and _is_ranking(one["results"]) and _is_ranking(other["results"]):
            rest = differences({**one, "results": 0}, {**other, "results": 0}, tolerance, where)
            return rest + _compare_rankings(one["results"], other["results"], tolerance, f"{where}.results")
        found = [f"{where}: {key} is on one side only" for key in one.keys() ^ other.keys()]
        for key in one.keys() & other.keys():
            found += differences(one[key], other[key], tolerance, f"{where}.{key}")
        return found
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return [f"{where}: {len(one)} against {len(other)} items: {str(one)[:300]} against {str(other)[:300]}"]
        pairs = enumerate(zip(one, other, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, tolerance, f"{where}[{i}]")]
    if isinstance(one, float) and isinstance(other, float) and _near(one, other, tolerance):
        return []
    return [] if one == other else [f"{where}: {str(one)[:300]} against {str(other)[:300]}"]


def _near(one: float, other: float, tolerance: float) -> bool:
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance / 10)


def _is_ranking(results: Any) -> bool:
    return (
        isinstance(results, list)
        and all(isinstance(r, dict) and "entry" in r and "error" not in r for r in results)
        and any("score" in r for r in results)
    )


def _compare_rankings(
    one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], tolerance: float, where: str
) -> list[str]:
    """Rankings are the same where their scores are, place by place, and where results of clearly different scores have
    the same order. Of results that tie at the end others may be there."""
    scores = [[float(result.get("score", 0.0)) for result in results] for results in (one, other)]
    if len(one) != len(other):
        return [f"{where}: {len(one)} against {len(other)} results, with scores {scores[0]} against {scores[1]}"]
    found = [
        f"{where}[{i}]: score {a} against {b}"
        for i, (a, b) in enumerate(zip(*scores, strict=True))
        if not _near(a, b, tolerance)
    ]
    entries = [{result["entry"]["name"]: result for result in results} for results in (one, other)]
    last = min((results[-1] for results in scores if results), default=0.0)
    for side, there in ((0, 1), (1, 0)):
        for name, result in entries[side].items():
            score = float(result.get("score", 0.0))
            match = entries[there].get(name)
            if match is None:
                if not _near(score, last, tolerance):
                    found.append(f"{where}: only one side has {result['entry'].get('text', name)!r}, score {score}")
            elif side == 0:
                found += differences(result["entry"], match["entry"], tolerance, f"{where}.{name}")
                if bool(result.get("explanation")) != bool(match.get("explanation")):
                    found.append(f"{where}: one side only explains {name}")
                if not _near(score, float(match.get("score", 0.0)), tolerance):
                    found.append(f"{where}: {name} has score {score} against {match.get('score')}")
    return found
