"""The gRPC edge: messages to core types and back. What things mean is decided in library.py."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeAlias

import grpc
from nesycd.knowledge.v1 import KnowledgeServiceServicer
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from services.common.errors import InvalidArgument, NesycdError
from services.common.ordered import map_in_order
from services.common.pages import decode_page_token, encode_page_token, is_number, is_text, page_size
from services.common.rows import row_status
from services.knowledge import convert, exchange, names
from services.knowledge.entries import CONTENT_FIELDS, Entry
from services.knowledge.filters import parse
from services.knowledge.library import Creation, Feedback, Library
from services.knowledge.reviews import Decision
from services.knowledge.search import MAX_TOP_K, Fusion, Query, SearchMode

MAX_BATCH = 1000
MAX_EXCLUDED = 1000
MAX_TOP_COUNT = 100
_SEARCHES_AT_ONCE = 16  # of one BatchSearchEntries
_EXPORT_PAGE = 500
_AUDIT_REVISIONS = 100  # a message: a revision may have 20 kB and more
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class KnowledgeServicer(KnowledgeServiceServicer):
    """Every call of the contract, over a Library."""

    def __init__(self, library: Library) -> None:
        self._library = library

    # -- bases

    async def CreateKnowledgeBase(
        self, request: pb.CreateKnowledgeBaseRequest, context: Context
    ) -> pb.CreateKnowledgeBaseResponse:
        """Makes a knowledge base."""
        given = request.knowledge_base
        base = await self._library.create_base(
            request.knowledge_base_id, given.title, given.description, request.request_id
        )
        return pb.CreateKnowledgeBaseResponse(knowledge_base=convert.base_message(base))

    async def GetKnowledgeBase(
        self, request: pb.GetKnowledgeBaseRequest, context: Context
    ) -> pb.GetKnowledgeBaseResponse:
        """One knowledge base."""
        base = await self._library.base(names.parse_base(request.name))
        return pb.GetKnowledgeBaseResponse(knowledge_base=convert.base_message(base))

    async def ListKnowledgeBases(
        self, request: pb.ListKnowledgeBasesRequest, context: Context
    ) -> pb.ListKnowledgeBasesResponse:
        """All knowledge bases, by id."""
        size = page_size(request.page_size)
        after = decode_page_token("knowledgeBases", request.page_token, is_text) or ""
        bases = await self._library.bases(after, size + 1)
        response = pb.ListKnowledgeBasesResponse(knowledge_bases=map(convert.base_message, bases[:size]))
        if len(bases) > size:
            response.next_page_token = encode_page_token("knowledgeBases", bases[size - 1].id)
        return response

    async def UpdateKnowledgeBase(
        self, request: pb.UpdateKnowledgeBaseRequest, context: Context
    ) -> pb.UpdateKnowledgeBaseResponse:
        """Changes a knowledge base's title or description."""
        given = request.knowledge_base
        kb = names.parse_base(given.name, "knowledge_base.name")
        paths = _paths(request.update_mask.paths, ("title", "description"), lambda path: bool(getattr(given, path)))
        base = await self._library.update_base(kb, given.etag, {path: getattr(given, path) for path in paths})
        return pb.UpdateKnowledgeBaseResponse(knowledge_base=convert.base_message(base))

    async def DeleteKnowledgeBase(
        self, request: pb.DeleteKnowledgeBaseRequest, context: Context
    ) -> pb.DeleteKnowledgeBaseResponse:
        """Removes a knowledge base with all its entries."""
        await self._library.delete_base(names.parse_base(request.name), request.etag, request.force)
        return pb.DeleteKnowledgeBaseResponse()

    # -- entries

    async def CreateEntry(self, request: pb.CreateEntryRequest, context: Context) -> pb.CreateEntryResponse:
        """Adds an entry."""
        kb = names.parse_base(request.parent, "parent")
        entry, merged = await self._library.create(kb, _creation(request, kb))
        return pb.CreateEntryResponse(entry=convert.entry_message(entry), merged=merged)

    async def BatchCreateEntries(
        self, request: pb.BatchCreateEntriesRequest, context: Context
    ) -> pb.BatchCreateEntriesResponse:
        """Adds many entries; a status for each."""
        kb = names.parse_base(request.parent, "parent")
        if not 1 <= len(request.requests) <= MAX_BATCH:
            raise InvalidArgument(
                f"requests has {len(request.requests)} entries: give 1 to {MAX_BATCH}", field="requests"
            )
        creations: list[Creation | NesycdError] = []
        for i, one in enumerate(request.requests):
            try:
                if one.parent and one.parent != request.parent:
                    raise InvalidArgument(
                        f"requests[{i}].parent is {names.shown(one.parent)}: leave it empty, or as the batch has it",
                        field=f"requests[{i}].parent",
                    )
                creations.append(_creation(one, kb))
            except NesycdError as error:
                creations.append(error)
        response = pb.BatchCreateEntriesResponse()
        for result in await self._library.create_many(kb, creations):
            if isinstance(result, NesycdError):
                response.results.add(error=row_status(result))
            else:
                response.results.add(entry=convert.entry_message(result[0]), merged=result[1])
        return response

    async def GetEntry(self, request: pb.GetEntryRequest, context: Context) -> pb.GetEntryResponse:
        """One entry."""
        entry = await self._library.entry(*names.parse_entry(request.name))
        return pb.GetEntryResponse(entry=convert.entry_message(entry))

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Context) -> pb.ListEntriesResponse:
        """The entries of a knowledge base, by name."""
        kb = names.parse_base(request.parent, "parent")
        size, where = page_size(request.page_size), parse(request.filter)
        kind = f"entries:{kb}:{request.filter}"
        after = decode_page_token(kind, request.page_token, names.is_entry_id) or ""
        entries = await self._library.entries(kb, after, size + 1, where)
        response = pb.ListEntriesResponse(entries=map(convert.entry_message, entries[:size]))
        if len(entries) > size:
            response.next_page_token = encode_page_token(kind, entries[size - 1].id)
        return response

    async def UpdateEntry(self, request: pb.UpdateEntryRequest, context: Context) -> pb.UpdateEntryResponse:
        """Changes an entry."""
        given = request.entry
        kb, entry_id = names.parse_entry(given.name, "entry.name")
        paths = _paths(request.update_mask.paths, CONTENT_FIELDS, lambda path: bool(getattr(given, path)))
        wanted = convert.entry_of(given, kb)
        changes: dict[str, Any] = {path: getattr(wanted, path) for path in paths}
        entry = await self._library.update(
            kb, entry_id, given.etag, changes, request.author, request.reason, request.reviewed
        )
        return pb.UpdateEntryResponse(entry=convert.entry_message(entry))

    async def DeleteEntry(self, request: pb.DeleteEntryRequest, context: Context) -> pb.DeleteEntryResponse:
        """Retires an entry; its revisions stay."""
        kb, entry_id = names.parse_entry(request.name)
        entry = await self._library.retire(kb, entry_id, request.etag, request.author, request.reason)
        return pb.DeleteEntryResponse(entry=convert.entry_message(entry))

    async def ListEntryRevisions(
        self, request: pb.ListEntryRevisionsRequest, context: Context
    ) -> pb.ListEntryRevisionsResponse:
        """What an entry was, newest first."""
        kb, entry_id = names.parse_entry(request.parent, "parent")
        size, kind = page_size(request.page_size), f"revisions:{kb}:{entry_id}"
        before = decode_page_token(kind, request.page_token, is_number) or 2**62
        revisions = await self._library.revisions(kb, entry_id, before, size + 1)
        response = pb.ListEntryRevisionsResponse(revisions=map(convert.revision_message, revisions[:size]))
        if len(revisions) > size:
            response.next_page_token = encode_page_token(kind, revisions[size - 1].entry.revision)
        return response

    async def GetEntryRevision(
        self, request: pb.GetEntryRevisionRequest, context: Context
    ) -> pb.GetEntryRevisionResponse:
        """What an entry was at one revision."""
        revision = await self._library.revision(*names.parse_revision(request.name))
        return pb.GetEntryRevisionResponse(revision=convert.revision_message(revision))

    async def RollbackEntry(self, request: pb.RollbackEntryRequest, context: Context) -> pb.RollbackEntryResponse:
        """Makes an earlier revision the current one, as a new revision."""
        kb, entry_id = names.parse_entry(request.name)
        if request.revision < 1:
            raise InvalidArgument(f"revision is {request.revision}: revisions count from 1", field="revision")
        entry = await self._library.roll_back(
            kb, entry_id, request.revision, request.etag, request.author, request.reason
        )
        return pb.RollbackEntryResponse(entry=convert.entry_message(entry))

    async def ListReviews(self, request: pb.ListReviewsRequest, context: Context) -> pb.ListReviewsResponse:
        """What waits for a person, and why."""
        kb = names.parse_base(request.parent, "parent")
        size, kind = page_size(request.page_size), f"reviews:{kb}"
        after = decode_page_token(kind, request.page_token, names.is_entry_id) or ""
        reviews = await self._library.reviews(kb, after, size + 1)
        response = pb.ListReviewsResponse()
        for review in reviews[:size]:
            conflicts = map(convert.entry_message, review.conflicts)
            response.reviews.add(entry=convert.entry_message(review.entry), conflicts=conflicts)
        if len(reviews) > size:
            response.next_page_token = encode_page_token(kind, reviews[size - 1].entry.id)
        return response

    async def ResolveReview(self, request: pb.ResolveReviewRequest, context: Context) -> pb.ResolveReviewResponse:
        """A person's decision about an entry that waits."""
        kb, entry_id = names.parse_entry(request.name)
        if int(request.decision) not in [int(decision) for decision in Decision]:
            known = ", ".join(f"{decision.value} {decision.name}" for decision in Decision)
            raise InvalidArgument(f"decision is {request.decision}: use one of {known}", field="decision")
        if len(request.others) > MAX_BATCH:
            raise InvalidArgument(
                f"others has {len(request.others)} names; at most {MAX_BATCH} are allowed", field="others"
            )
        others = []
        for i, name in enumerate(request.others):
            other_kb, other = names.parse_entry(name, f"others[{i}]")
            if other_kb != kb:
                raise InvalidArgument(
                    f"others[{i}] is of {names.base_name(other_kb)}, not of {names.base_name(kb)}",
                    field=f"others[{i}]",
                )
            others.append(other)
        decision = Decision(request.decision)
        entry, changed = await self._library.resolve(
            kb, entry_id, decision, others, request.etag, request.author, request.reason
        )
        return pb.ResolveReviewResponse(entry=convert.entry_message(entry), others=map(convert.entry_message, changed))

    async def RecordFeedback(self, request: pb.RecordFeedbackRequest, context: Context) -> pb.RecordFeedbackResponse:
        """Says that entries helped or harmed an answer."""
        kb = names.parse_base(request.parent, "parent")
        items = []
        for i, one in enumerate(request.feedback):
            other, entry_id = names.parse_entry(one.entry, f"feedback[{i}].entry")
            if other != kb:
                raise InvalidArgument(
                    f"feedback[{i}].entry is of {names.base_name(other)}, not of {request.parent}",
                    field=f"feedback[{i}].entry",
                )
            items.append(Feedback(entry_id, one.used, one.helpful, one.harmful))
        await self._library.feedback(kb, items, request.request_id)
        return pb.RecordFeedbackResponse()

    # -- search

    async def SearchEntries(self, request: pb.SearchEntriesRequest, context: Context) -> pb.SearchEntriesResponse:
        """The entries that fit a query best."""
        kb = names.parse_base(request.parent, "parent")
        hits, version = await self._library.search(kb, _query(request))
        return pb.SearchEntriesResponse(results=map(convert.hit_message, hits), version=version)

    async def BatchSearchEntries(
        self, request_iterator: AsyncIterator[pb.BatchSearchEntriesRequest], context: Context
    ) -> AsyncIterator[pb.BatchSearchEntriesResponse]:
        """Many searches over one stream, answered in their order."""

        async def answer(row: pb.BatchSearchEntriesRequest) -> pb.BatchSearchEntriesResponse:
            try:
                response = await self.SearchEntries(row.request, context)
                return pb.BatchSearchEntriesResponse(row_id=row.row_id, response=response)
            except NesycdError as error:
                return pb.BatchSearchEntriesResponse(row_id=row.row_id, error=row_status(error))

        async for result in map_in_order(answer, aiter(request_iterator), concurrency=_SEARCHES_AT_ONCE):
            yield result

    async def WatchEntries(
        self, request: pb.WatchEntriesRequest, context: Context
    ) -> AsyncIterator[pb.WatchEntriesResponse]:
        """Changes since a token, and those to come."""
        kb = names.parse_base(request.parent, "parent")
        kind = f"watch:{kb}"
        since = decode_page_token(kind, request.watch_token, is_number)
        async for version, entry in self._library.changes(kb, since):
            yield pb.WatchEntriesResponse(
                entry=convert.entry_message(entry), version=version, watch_token=encode_page_token(kind, version)
            )

    async def GetKnowledgeBaseStatistics(
        self, request: pb.GetKnowledgeBaseStatisticsRequest, context: Context
    ) -> pb.GetKnowledgeBaseStatisticsResponse:
        """What a knowledge base holds, in figures."""
        kb = names.parse_base(request.name)
        if not 0 <= request.top_count <= MAX_TOP_COUNT:
            raise InvalidArgument(
                f"top_count is {request.top_count}: give 1 to {MAX_TOP_COUNT}, or 0 for 10", field="top_count"
            )
        base, figures = await self._library.statistics(kb, request.top_count or 10)
        return pb.GetKnowledgeBaseStatisticsResponse(
            knowledge_base=convert.base_message(base),
            by_status={f"ENTRY_STATUS_{status.name}": count for status, count in figures.by_status.items()},
            by_kind={f"ENTRY_KIND_{kind.name}": count for kind, count in figures.by_kind.items()},
            tags=[pb.GetKnowledgeBaseStatisticsResponse.TagCount(tag=tag, count=n) for tag, n in figures.tags],
            counters=pb.Counters(used=figures.used, helpful=figures.helpful, harmful=figures.harmful),
            most_used=map(convert.entry_message, figures.most_used),
            most_helpful=map(convert.entry_message, figures.most_helpful),
            most_harmful=map(convert.entry_message, figures.most_harmful),
        )

    async def ExportAudit(
        self, request: pb.ExportAuditRequest, context: Context
    ) -> AsyncIterator[pb.ExportAuditResponse]:
        """Every revision of every entry: by entry, then by revision."""
        kb = names.parse_base(request.parent, "parent")
        since = convert.time_of(request.since, "since") if request.HasField("since") else 0
        async for revisions in self._library.audit(kb, since):
            for start in range(0, len(revisions), _AUDIT_REVISIONS):
                page = revisions[start : start + _AUDIT_REVISIONS]
                yield pb.ExportAuditResponse(revisions=map(convert.revision_message, page))

    # -- files

    async def ImportEntries(
        self, request_iterator: AsyncIterator[pb.ImportEntriesRequest], context: Context
    ) -> pb.ImportEntriesResponse:
        """Reads a file of entries into a knowledge base."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("payload") != "options":
            raise InvalidArgument("the first message of an import must hold the options", field="options")
        options = first.options
        kb = names.parse_base(options.parent, "options.parent")
        reader: exchange.Reader = (
            exchange.MarkdownReader() if _is_markdown(options.format, "options.format") else exchange.JsonlReader()
        )
        report = await self._library.import_items(
            kb,
            _items(request_iterator, reader),
            atomic=options.atomic,
            dry_run=options.dry_run,
            reviewed=options.reviewed,
            list_changes=options.list_changes,
            author=options.author,
            reason=options.reason,
        )
        response = pb.ImportEntriesResponse(
            created=report.created,
            updated=report.updated,
            unchanged=report.unchanged,
            merged=report.merged,
            for_review=report.for_review,
        )
        for problem in report.problems:
            response.problems.add(line=problem.line, error=row_status(problem.error))
        for change in report.changes:
            response.changes.add(
                line=change.line,
                outcome=int(change.outcome),  # type: ignore[arg-type]
                entry=convert.entry_message(change.entry),
                before=None if change.before is None else convert.entry_message(change.before),
            )
        response.changes_left_out = report.changes_left_out
        return response

    async def ExportEntries(
        self, request: pb.ExportEntriesRequest, context: Context
    ) -> AsyncIterator[pb.ExportEntriesResponse]:
        """Writes a knowledge base as a file, by entry id."""
        kb = names.parse_base(request.parent, "parent")
        where = parse(request.filter)
        is_markdown = _is_markdown(request.format, "format")
        write: Callable[[Entry], str] = exchange.write_markdown if is_markdown else exchange.write_jsonl
        await self._library.base(kb)
        if is_markdown:
            yield pb.ExportEntriesResponse(data=exchange.MARKDOWN_HEADER.encode())
        after = ""
        while entries := await self._library.entries(kb, after, _EXPORT_PAGE, where):
            yield pb.ExportEntriesResponse(data="".join(map(write, entries)).encode())
            after = entries[-1].id


def _creation(request: pb.CreateEntryRequest, kb: str) -> Creation:
    if not request.HasField("entry"):
        raise InvalidArgument("entry is missing", field="entry")
    entry = convert.entry_of(request.entry, kb)
    return Creation(entry, request.entry_id, request.merge, request.author, request.reason, request.reviewed)


def _paths(given: Iterable[str], known: tuple[str, ...], is_set: Callable[[str], bool]) -> list[str]:
    """The fields of an update mask; without one those that are set (AIP-134), with `*` all."""
    paths = list(dict.fromkeys(given))
    if paths == ["*"]:
        return list(known)
    for path in paths:
        if path not in known:
            raise InvalidArgument(
                f"update_mask has {names.shown(path)}: it may have {', '.join(known)}", field="update_mask"
            )
    return paths or [path for path in known if is_set(path)]


def _query(request: pb.SearchEntriesRequest) -> Query:
    if not request.query.strip():
        raise InvalidArgument("query is empty: say what to look for", field="query")
    if not 0 <= request.top_k <= MAX_TOP_K:
        raise InvalidArgument(f"top_k is {request.top_k}: give 1 to {MAX_TOP_K}, or 0 for 3", field="top_k")
    if not math.isfinite(request.minimum_score):
        raise InvalidArgument("minimum_score is not a number", field="minimum_score")
    weight = request.hybrid_weight if request.HasField("hybrid_weight") else 0.5
    if not 0.0 <= weight <= 1.0:
        raise InvalidArgument(f"hybrid_weight is {weight}: give 0 to 1", field="hybrid_weight")
    if not 0.0 <= request.feedback_weight <= 1.0:
        raise InvalidArgument(f"feedback_weight is {request.feedback_weight}: give 0 to 1", field="feedback_weight")
    if int(request.mode) not in [int(mode) for mode in SearchMode]:
        raise InvalidArgument(f"mode is {request.mode}, which is none of the contract's", field="mode")
    if int(request.fusion) not in [0, *(int(fusion) for fusion in Fusion)]:
        raise InvalidArgument(f"fusion is {request.fusion}, which is none of the contract's", field="fusion")
    if len(request.exclude_entries) > MAX_EXCLUDED:
        raise InvalidArgument(
            f"exclude_entries has {len(request.exclude_entries)} names; at most {MAX_EXCLUDED} are allowed",
            field="exclude_entries",
        )
    return Query(
        text=request.query,
        mode=SearchMode(request.mode),
        top_k=request.top_k or 3,
        # The contract has no presence for it: 0 is no bound, or a cosine below 0 could never be found.
        minimum_score=request.minimum_score or None,
        filter=parse(request.filter),
        exclude=frozenset(
            names.parse_entry(name, f"exclude_entries[{i}]")[1] for i, name in enumerate(request.exclude_entries)
        ),
        exclude_sole_source_case=request.exclude_sole_source_case,
        hybrid_weight=weight,
        fusion=Fusion(request.fusion or Fusion.RELATIVE_SCORE),
        explain=request.explain,
        feedback_weight=request.feedback_weight,
    )


def _is_markdown(value: int, field: str) -> bool:
    if value not in pb.ExchangeFormat.values():
        raise InvalidArgument(f"{field} is {value}, which is none of the contract's", field=field)
    return value == pb.EXCHANGE_FORMAT_MARKDOWN


async def _items(
    requests: AsyncIterator[pb.ImportEntriesRequest], reader: exchange.Reader
) -> AsyncIterator[exchange.Item]:
    async for request in requests:
        if request.WhichOneof("payload") != "data":
            raise InvalidArgument("only the first message of an import may hold options", field="payload")
        for item in reader.feed(request.data):
            yield item
    for item in reader.finish():
        yield item
