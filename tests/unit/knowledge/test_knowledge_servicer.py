"""The gRPC edge: every call answers, and hostile input gets a status of the right kind."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from services.common.errors import from_rpc_error

KB = "knowledgeBases/kb"
NOBODY = f"{KB}/entries/00000000-0000-0000-0000-000000000000"
BAD = grpc.StatusCode.INVALID_ARGUMENT


async def create(stub: KnowledgeServiceStub, text: str, **fields: Any) -> pb.Entry:
    request = pb.CreateEntryRequest(parent=KB, entry=pb.Entry(text=text, **fields), author="Ada")
    return (await stub.CreateEntry(request)).entry


async def test_an_entry_lives_through_all_its_calls(stub: KnowledgeServiceStub) -> None:
    entry = await create(stub, "An eagle has two wings", tags=["birds"], sources=[pb.Source(case_id="c1")])
    assert (await stub.GetEntry(pb.GetEntryRequest(name=entry.name))).entry == entry
    entry.text = "An eagle has 2 wings"
    update = pb.UpdateEntryRequest(entry=entry, update_mask={"paths": ["text"]}, author="Bea", reason="digits")
    changed = (await stub.UpdateEntry(update)).entry
    assert (changed.revision, list(changed.tags)) == (2, ["birds"])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.UpdateEntry(pb.UpdateEntryRequest(entry=pb.Entry(name=entry.name, text="x", etag=entry.etag)))
    error = from_rpc_error(refused.value)
    assert error.code is grpc.StatusCode.ABORTED
    assert (error.metadata["given_revision"], error.metadata["current_revision"]) == ("1", "2")
    request = pb.SearchEntriesRequest(parent=KB, query="2 wings?", filter="tags:birds", explain=True)
    found = await stub.SearchEntries(request)
    assert found.results[0].entry == changed
    assert found.version == (await stub.GetKnowledgeBase(pb.GetKnowledgeBaseRequest(name=KB))).knowledge_base.version
    request.exclude_entries.append(entry.name)
    assert not (await stub.SearchEntries(request)).results
    feedback = pb.RecordFeedbackRequest.Feedback(entry=entry.name, used=1, helpful=1)
    await stub.RecordFeedback(pb.RecordFeedbackRequest(parent=KB, feedback=[feedback], request_id="r"))
    deleted = await stub.DeleteEntry(pb.DeleteEntryRequest(name=entry.name, etag=changed.etag))
    assert deleted.entry.status == pb.ENTRY_STATUS_RETIRED
    back = (await stub.RollbackEntry(pb.RollbackEntryRequest(name=entry.name, revision=1))).entry
    assert (back.text, back.revision, back.counters.helpful) == ("An eagle has two wings", 4, 1)
    first = await stub.ListEntryRevisions(pb.ListEntryRevisionsRequest(parent=entry.name, page_size=3))
    rest = await stub.ListEntryRevisions(
        pb.ListEntryRevisionsRequest(parent=entry.name, page_token=first.next_page_token)
    )
    assert [r.entry.revision for r in (*first.revisions, *rest.revisions)] == [4, 3, 2, 1]
    assert first.revisions[2].author == "Bea"


async def test_batches_pages_and_files_go_through(stub: KnowledgeServiceStub) -> None:
    requests = [pb.CreateEntryRequest(entry=pb.Entry(text=f"fact {i}")) for i in range(5)]
    requests[2].entry.text = ""
    batch = await stub.BatchCreateEntries(pb.BatchCreateEntriesRequest(parent=KB, requests=requests))
    assert [result.WhichOneof("result") for result in batch.results] == ["entry", "entry", "error", "entry", "entry"]
    assert batch.results[2].error.code == BAD.value[0]
    names, token = [], ""
    while True:
        page = await stub.ListEntries(
            pb.ListEntriesRequest(parent=KB, page_size=3, page_token=token, filter="kind:FACT")
        )
        names += [entry.name for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert names == sorted(names)
    assert len(names) == 4

    async def searches() -> Any:
        for i in range(3):
            yield pb.BatchSearchEntriesRequest(
                row_id=str(i), request={"parent": KB, "query": "" if i == 1 else f"fact {i}"}
            )

    rows = [row async for row in stub.BatchSearchEntries(searches())]
    assert [(row.row_id, row.WhichOneof("result")) for row in rows] == [
        ("0", "response"),
        ("1", "error"),
        ("2", "response"),
    ]
    await stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb2"))
    for form in (pb.EXCHANGE_FORMAT_JSONL, pb.EXCHANGE_FORMAT_MARKDOWN):
        data = b"".join(
            [part.data async for part in stub.ExportEntries(pb.ExportEntriesRequest(parent=KB, format=form))]
        )

        async def file(data: bytes = data, form: int = form) -> Any:
            yield pb.ImportEntriesRequest(options={"parent": "knowledgeBases/kb2", "format": form, "author": "Ada"})
            for start in range(0, len(data), 100):
                yield pb.ImportEntriesRequest(data=data[start : start + 100])

        report = await stub.ImportEntries(file())
        assert (report.created + report.unchanged, len(report.problems)) == (4, 0)
    bases = await stub.ListKnowledgeBases(pb.ListKnowledgeBasesRequest(page_size=1))
    assert bases.knowledge_bases[0].name == KB
    assert bases.knowledge_bases[0].entry_count == 4
    more = await stub.ListKnowledgeBases(pb.ListKnowledgeBasesRequest(page_token=bases.next_page_token))
    assert [base.name for base in more.knowledge_bases] == ["knowledgeBases/kb2"]
    renamed = pb.KnowledgeBase(name=KB, title="Animals")
    assert (
        await stub.UpdateKnowledgeBase(pb.UpdateKnowledgeBaseRequest(knowledge_base=renamed))
    ).knowledge_base.title == "Animals"
    await stub.DeleteKnowledgeBase(pb.DeleteKnowledgeBaseRequest(name="knowledgeBases/kb2", force=True))


async def test_reviews_revisions_audit_and_figures_go_through(stub: KnowledgeServiceStub) -> None:
    first = await create(stub, "A spider has 8 legs.", tags=["a"])
    drafts = [await create(stub, f"A spider has {legs} legs.") for legs in (6, 10, 12)]
    assert {draft.status for draft in drafts} == {pb.ENTRY_STATUS_DRAFT}
    page = await stub.ListReviews(pb.ListReviewsRequest(parent=KB, page_size=2))
    rest = await stub.ListReviews(pb.ListReviewsRequest(parent=KB, page_token=page.next_page_token))
    assert [review.entry.name for review in (*page.reviews, *rest.reviews)] == sorted(draft.name for draft in drafts)
    assert page.reviews[0].conflicts[0] == first
    assert page.reviews[0].entry.conflicting_entries[0] == first.name
    request = pb.ResolveReviewRequest(
        name=drafts[0].name, decision=pb.REVIEW_DECISION_REPLACE, etag=drafts[0].etag, author="Bea", others=[first.name]
    )
    done = await stub.ResolveReview(request)
    assert done.entry.status == pb.ENTRY_STATUS_ACTIVE
    assert [(other.name, other.superseded_by) for other in done.others] == [(first.name, drafts[0].name)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ResolveReview(request)
    conflict = from_rpc_error(refused.value).find(pb.EditConflict)
    assert conflict is not None
    assert (conflict.current.entry.status, conflict.read.entry.status) == (
        pb.ENTRY_STATUS_ACTIVE,
        pb.ENTRY_STATUS_DRAFT,
    )
    name = f"{first.name}/revisions/1"
    revision = (await stub.GetEntryRevision(pb.GetEntryRevisionRequest(name=name))).revision
    assert (revision.name, revision.entry.text, revision.author) == (name, first.text, "Ada")
    audit = [r async for part in stub.ExportAudit(pb.ExportAuditRequest(parent=KB)) for r in part.revisions]
    assert [r.name for r in audit] == sorted(r.name for r in audit)
    assert len(audit) == 6
    late = pb.ExportAuditRequest(parent=KB, since=done.entry.update_time)
    assert [r.author async for part in stub.ExportAudit(late) for r in part.revisions] == ["Bea"]
    figures = await stub.GetKnowledgeBaseStatistics(pb.GetKnowledgeBaseStatisticsRequest(name=KB))
    assert figures.by_status == {"ENTRY_STATUS_ACTIVE": 1, "ENTRY_STATUS_DRAFT": 2, "ENTRY_STATUS_SUPERSEDED": 1}
    assert figures.by_kind == {"ENTRY_KIND_FACT": 4}
    assert [(tag.tag, tag.count) for tag in figures.tags] == [("a", 1)]
    assert (figures.knowledge_base.entry_count, figures.knowledge_base.active_entry_count) == (4, 1)


async def test_an_import_lists_its_changes(stub: KnowledgeServiceStub) -> None:
    await create(stub, "A spider has 8 legs.")

    async def file(**options: Any) -> Any:
        yield pb.ImportEntriesRequest(options={"parent": KB, **options})
        yield pb.ImportEntriesRequest(data=b'{"text":"A spider has 6 legs."}\n{"text":"new"}\n')

    dry = await stub.ImportEntries(file(dry_run=True))
    outcomes = [pb.IMPORT_OUTCOME_FOR_REVIEW, pb.IMPORT_OUTCOME_CREATED]
    assert [(change.line, change.outcome) for change in dry.changes] == list(zip((1, 2), outcomes, strict=True))
    assert not dry.changes[0].HasField("before")
    assert dry.changes[0].entry.status == pb.ENTRY_STATUS_DRAFT
    assert (await stub.ImportEntries(file(reviewed=True))).for_review == 0


async def test_watching_goes_on_from_its_token(stub: KnowledgeServiceStub) -> None:
    call = stub.WatchEntries(pb.WatchEntriesRequest(parent=KB))
    first = await create(stub, "zero")
    token = ""
    while not token:
        entry = await create(stub, f"more than {first.name}")
        change = await call.read()
        token = change.watch_token
    call.cancel()
    await create(stub, "two")
    again = stub.WatchEntries(pb.WatchEntriesRequest(parent=KB, watch_token=token))
    texts = set()
    while "two" not in texts:
        texts.add((await again.read()).entry.text)
    assert entry.text in texts or change.entry == entry
    again.cancel()


HOSTILE: list[tuple[str, Any, grpc.StatusCode]] = [
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": "x" * 1_000_000}), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": "a\0b"}), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": " \n "}), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": "a", "kind": 99}), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": "a", "status": -1}), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": "a", "title": "a\nb"}), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": "a", "tags": [f"t{i}" for i in range(33)]}), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": "a", "sources": [{}]}), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": "a"}, entry_id="../../x"), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent=KB, entry={"text": "a"}, author="\x1b[31m"), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent="knowledgeBases/../kb", entry={"text": "a"}), BAD),
    ("CreateEntry", pb.CreateEntryRequest(parent="knowledgeBases/no", entry={"text": "a"}), grpc.StatusCode.NOT_FOUND),
    ("BatchCreateEntries", pb.BatchCreateEntriesRequest(parent=KB), BAD),
    ("GetEntry", pb.GetEntryRequest(name=NOBODY), grpc.StatusCode.NOT_FOUND),
    ("GetEntry", pb.GetEntryRequest(name="x" * 100_000), BAD),
    ("UpdateEntry", pb.UpdateEntryRequest(entry={"name": NOBODY, "text": "a"}), grpc.StatusCode.NOT_FOUND),
    ("UpdateEntry", pb.UpdateEntryRequest(entry={"name": NOBODY}, update_mask={"paths": ["revision"]}), BAD),
    ("DeleteEntry", pb.DeleteEntryRequest(name=NOBODY), grpc.StatusCode.NOT_FOUND),
    ("RollbackEntry", pb.RollbackEntryRequest(name=NOBODY, revision=-1), BAD),
    ("RollbackEntry", pb.RollbackEntryRequest(name=NOBODY, revision=2**62), grpc.StatusCode.NOT_FOUND),
    ("ListEntries", pb.ListEntriesRequest(parent=KB, page_size=-1), BAD),
    ("ListEntries", pb.ListEntriesRequest(parent=KB, page_token="AAAA"), BAD),
    ("ListEntries", pb.ListEntriesRequest(parent=KB, filter="text = 'x' OR 1=1"), BAD),
    ("ListEntryRevisions", pb.ListEntryRevisionsRequest(parent=NOBODY), grpc.StatusCode.NOT_FOUND),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query=" "), BAD),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", top_k=-1), BAD),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", top_k=101), BAD),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", mode=9), BAD),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", fusion=9), BAD),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", hybrid_weight=float("nan")), BAD),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", minimum_score=float("nan")), BAD),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", exclude_entries=["x"]), BAD),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", mode=2), grpc.StatusCode.FAILED_PRECONDITION),
    ("SearchEntries", pb.SearchEntriesRequest(parent="knowledgeBases/no", query="a"), grpc.StatusCode.NOT_FOUND),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", feedback_weight=1.5), BAD),
    ("SearchEntries", pb.SearchEntriesRequest(parent=KB, query="a", feedback_weight=float("nan")), BAD),
    ("GetEntryRevision", pb.GetEntryRevisionRequest(name=NOBODY), BAD),
    ("GetEntryRevision", pb.GetEntryRevisionRequest(name=f"{NOBODY}/revisions/0"), BAD),
    ("GetEntryRevision", pb.GetEntryRevisionRequest(name=f"{NOBODY}/revisions/" + "9" * 30), BAD),
    ("GetEntryRevision", pb.GetEntryRevisionRequest(name=f"{NOBODY}/revisions/1"), grpc.StatusCode.NOT_FOUND),
    ("ListReviews", pb.ListReviewsRequest(parent="knowledgeBases/no"), grpc.StatusCode.NOT_FOUND),
    ("ListReviews", pb.ListReviewsRequest(parent=KB, page_size=-1), BAD),
    ("ListReviews", pb.ListReviewsRequest(parent=KB, page_token="x"), BAD),
    ("ResolveReview", pb.ResolveReviewRequest(name=NOBODY), BAD),
    ("ResolveReview", pb.ResolveReviewRequest(name=NOBODY, decision=9), BAD),
    ("ResolveReview", pb.ResolveReviewRequest(name=NOBODY, decision=1), grpc.StatusCode.NOT_FOUND),
    ("ResolveReview", pb.ResolveReviewRequest(name=NOBODY, decision=3, others=["x"]), BAD),
    ("ResolveReview", pb.ResolveReviewRequest(name=NOBODY, decision=3, others=[NOBODY]), BAD),
    (
        "GetKnowledgeBaseStatistics",
        pb.GetKnowledgeBaseStatisticsRequest(name="knowledgeBases/no"),
        grpc.StatusCode.NOT_FOUND,
    ),
    ("GetKnowledgeBaseStatistics", pb.GetKnowledgeBaseStatisticsRequest(name=KB, top_count=-1), BAD),
    ("GetKnowledgeBaseStatistics", pb.GetKnowledgeBaseStatisticsRequest(name=KB, top_count=101), BAD),
    ("RecordFeedback", pb.RecordFeedbackRequest(parent=KB, feedback=[{"entry": NOBODY}]), grpc.StatusCode.NOT_FOUND),
    ("RecordFeedback", pb.RecordFeedbackRequest(parent="knowledgeBases/b", feedback=[{"entry": NOBODY}]), BAD),
    ("CreateKnowledgeBase", pb.CreateKnowledgeBaseRequest(knowledge_base_id="a/b"), BAD),
    ("CreateKnowledgeBase", pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb"), grpc.StatusCode.ALREADY_EXISTS),
    ("DeleteKnowledgeBase", pb.DeleteKnowledgeBaseRequest(name=KB, etag="9-x"), grpc.StatusCode.ABORTED),
    (
        "UpdateKnowledgeBase",
        pb.UpdateKnowledgeBaseRequest(knowledge_base={"name": KB}, update_mask={"paths": ["etag"]}),
        BAD,
    ),
]


async def test_hostile_input_gets_a_status_of_the_right_kind(stub: KnowledgeServiceStub) -> None:
    for method, request, code in HOSTILE:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await getattr(stub, method)(request)
        assert error.value.code() is code, (method, str(request)[:80], error.value.details())
    # Odd, but fine: right to left, no words, a megabyte of query.
    await create(stub, "\u202eright to left\u202c العربية")
    for query in ("العربية", "???", "word " * 200_000, "\0\x1b"):
        await stub.SearchEntries(pb.SearchEntriesRequest(parent=KB, query=query))


async def test_a_page_token_of_another_list_is_refused(stub: KnowledgeServiceStub) -> None:
    for i in range(3):
        await create(stub, f"fact {i}")
    page = await stub.ListEntries(pb.ListEntriesRequest(parent=KB, page_size=1))
    for other in (
        stub.ListEntries(pb.ListEntriesRequest(parent=KB, filter="kind:FACT", page_token=page.next_page_token)),
        stub.ListKnowledgeBases(pb.ListKnowledgeBasesRequest(page_token=page.next_page_token)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await other
        assert error.value.code() is BAD


async def test_streams_refuse_what_is_wrong(stub: KnowledgeServiceStub) -> None:
    for request, code in (
        (pb.ExportAuditRequest(parent="knowledgeBases/no"), grpc.StatusCode.NOT_FOUND),
        (pb.ExportAuditRequest(parent="x"), BAD),
        (pb.ExportAuditRequest(parent=KB, since={"seconds": 2**62}), BAD),
        (pb.ExportAuditRequest(parent=KB, since={"nanos": -1}), BAD),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            _ = [part async for part in stub.ExportAudit(request)]
        assert error.value.code() is code


async def test_an_import_must_begin_with_its_options(stub: KnowledgeServiceStub) -> None:
    for messages in ([], [pb.ImportEntriesRequest(data=b"{}")], [pb.ImportEntriesRequest(options={"parent": KB})] * 2):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.ImportEntries(iter(messages))
        assert error.value.code() is BAD
