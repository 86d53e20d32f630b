"""Knowledge bases: made, listed, changed, removed."""

from __future__ import annotations

from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.component.knowledge.congruence.backends import Base


async def case_a_base_has_what_it_was_made_with(kb: Base) -> None:
    other = kb.other("-b")
    made = await other.make(
        knowledge_base={"title": "Ünï 🦉", "description": "two\nlines", "name": "ignored"}, request_id="r1"
    )
    assert (made.name, made.title, made.description) == (other.name, "Ünï 🦉", "two\nlines")
    assert (made.entry_count, made.active_entry_count, made.embedder) == (0, 0, "")
    assert made.etag and made.version > 0 and made.create_time == made.update_time
    assert (await other.call("GetKnowledgeBase")).knowledge_base == made
    again = await other.make(knowledge_base={"title": "Ünï 🦉"}, request_id="r1")
    assert again == made
    await other.fails("CreateKnowledgeBase", "ALREADY_EXISTS", knowledge_base_id=other.id)
    await other.fails("CreateKnowledgeBase", "ALREADY_EXISTS", knowledge_base_id=other.id, request_id="r2")


async def case_ids_of_bases_are_checked(kb: Base) -> None:
    for wrong in ("", "a/b", "../x", "ä", "x" * 64, "a b", "a_b", "a.b", "\0"):
        await kb.fails("CreateKnowledgeBase", "INVALID_ARGUMENT", knowledge_base_id=wrong)
        await kb.fails("GetKnowledgeBase", "INVALID_ARGUMENT", name=f"knowledgeBases/{wrong}")
    for wrong in ("", "kb", "knowledgeBases/", "knowledgebases/x", "knowledgeBases/a/entries/b", "/knowledgeBases/a"):
        await kb.fails("GetKnowledgeBase", "INVALID_ARGUMENT", name=wrong)
        await kb.fails("ListEntries", "INVALID_ARGUMENT", parent=wrong)
    await kb.fails("CreateKnowledgeBase", "INVALID_ARGUMENT", knowledge_base_id="x", knowledge_base={"title": "a\nb"})
    long = {"description": "x" * 5000}
    await kb.fails("CreateKnowledgeBase", "INVALID_ARGUMENT", knowledge_base_id="x", knowledge_base=long)
    await kb.fails("CreateKnowledgeBase", "INVALID_ARGUMENT", knowledge_base_id="x", request_id="x" * 200)


async def case_ids_of_bases_differ_by_case(kb: Base) -> None:
    upper = kb.other("-CASE")
    lower = kb.other("-case")
    await upper.make(knowledge_base={"title": "upper"})
    await lower.make(knowledge_base={"title": "lower"})
    await upper.create("only in upper case")
    assert (await lower.call("GetKnowledgeBase")).knowledge_base.entry_count == 0
    assert (await upper.call("GetKnowledgeBase")).knowledge_base.title == "upper"
    assert await lower.texts() == []


async def case_every_call_names_a_missing_base(kb: Base) -> None:
    ghost = kb.other("-ghost")
    nobody = f"{ghost.name}/entries/00000000-0000-4000-8000-000000000000"
    for method, fields in (
        ("GetKnowledgeBase", {}),
        ("UpdateKnowledgeBase", {"knowledge_base": {"name": ghost.name, "title": "x"}}),
        ("DeleteKnowledgeBase", {}),
        ("CreateEntry", {"entry": {"text": "x"}}),
        ("BatchCreateEntries", {"requests": [{"entry": {"text": "x"}}]}),
        ("GetEntry", {"name": nobody}),
        ("ListEntries", {}),
        ("UpdateEntry", {"entry": {"name": nobody, "text": "x"}}),
        ("DeleteEntry", {"name": nobody}),
        ("SearchEntries", {"query": "x"}),
        ("ListEntryRevisions", {"parent": nobody}),
        ("GetEntryRevision", {"name": f"{nobody}/revisions/1"}),
        ("RollbackEntry", {"name": nobody, "revision": 1}),
        ("ListReviews", {}),
        ("ResolveReview", {"name": nobody, "decision": pb.REVIEW_DECISION_APPROVE}),
        ("RecordFeedback", {"feedback": [{"entry": nobody, "used": 1}]}),
        ("RecordFeedback", {}),
        ("GetKnowledgeBaseStatistics", {}),
    ):
        await ghost.fails(method, "NOT_FOUND", **fields)
    await ghost.import_fails("", "NOT_FOUND")
    rows = await ghost.batch_search({"query": "x"}, {"query": "y", "parent": kb.name})
    assert [row.WhichOneof("result") for row in rows] == ["error", "response"]
    for stream in (
        ghost.stub.ExportEntries(pb.ExportEntriesRequest(parent=ghost.name)),
        ghost.stub.ExportAudit(pb.ExportAuditRequest(parent=ghost.name)),
        ghost.stub.WatchEntries(pb.WatchEntriesRequest(parent=ghost.name), timeout=20),
    ):
        await ghost.stream_fails(stream, "NOT_FOUND")


async def case_title_and_description_change_under_their_etag(kb: Base) -> None:
    made = (await kb.call("GetKnowledgeBase")).knowledge_base
    change = {"name": kb.name, "title": "new", "etag": made.etag}
    changed = (await kb.call("UpdateKnowledgeBase", knowledge_base=change)).knowledge_base
    assert changed.title == "new" and changed.etag != made.etag and changed.version > made.version
    await kb.fails("UpdateKnowledgeBase", "ABORTED", "ETAG_MISMATCH", knowledge_base={**change, "title": "newer"})
    await kb.fails("UpdateKnowledgeBase", "ABORTED", "ETAG_MISMATCH", knowledge_base={**change, "etag": "nonsense"})
    same = (await kb.call("UpdateKnowledgeBase", knowledge_base={"name": kb.name, "title": "new"})).knowledge_base
    assert same.etag == changed.etag and same.version == changed.version
    mask = {"paths": ["description"]}
    fields = {"name": kb.name, "title": "not taken", "description": "d"}
    masked = (await kb.call("UpdateKnowledgeBase", knowledge_base=fields, update_mask=mask)).knowledge_base
    assert (masked.title, masked.description) == ("new", "d")
    every = {"name": kb.name, "description": "e"}
    masked = (await kb.call("UpdateKnowledgeBase", knowledge_base=every, update_mask={"paths": ["*"]})).knowledge_base
    assert (masked.title, masked.description) == ("", "e")
    for path in ("name", "version", "embedder", "entry_count", "title.x", ""):
        await kb.fails(
            "UpdateKnowledgeBase", "INVALID_ARGUMENT", knowledge_base={"name": kb.name}, update_mask={"paths": [path]}
        )
    await kb.create("an entry does not touch the etag of its base")
    assert (await kb.call("GetKnowledgeBase")).knowledge_base.etag == masked.etag


async def case_bases_are_listed_by_id_page_by_page(kb: Base) -> None:
    made = [kb.other(suffix) for suffix in ("-3", "-1", "-2")]
    for base in made:
        await base.make()
    await made[0].create("counted")
    await made[0].create("not active", status=pb.ENTRY_STATUS_RETIRED)
    # Other tests' bases are there, too: only this case's are looked at.
    found, token = [], ""
    while True:
        request = pb.ListKnowledgeBasesRequest(page_size=2, page_token=token)
        answer = await kb.stub.ListKnowledgeBases(request)
        assert len(answer.knowledge_bases) <= 2
        found += answer.knowledge_bases
        token = answer.next_page_token
        if not token:
            break
    assert [base.name for base in found] == sorted(base.name for base in found)
    mine = [base for base in found if base.name.startswith(kb.name)]
    kb.observe("bases", [(base.name, base.title, base.entry_count, base.active_entry_count) for base in mine])
    assert [base.name for base in mine] == [f"{kb.name}{suffix}" for suffix in ("", "-1", "-2", "-3")]
    assert (mine[3].entry_count, mine[3].active_entry_count) == (2, 1)
    await kb.fails("ListKnowledgeBases", "INVALID_ARGUMENT", page_size=-1)
    for wrong in ("x", "AAAA", "💥", "a" * 1000):
        await kb.fails("ListKnowledgeBases", "INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", page_token=wrong)


async def case_a_base_is_removed_with_force_and_made_again_empty(kb: Base) -> None:
    before = await kb.create("soon gone")
    await kb.feed_back(before.name, used=3)
    await kb.call("RecordFeedback", feedback=[{"entry": before.name, "used": 1}], request_id="once")
    old = (await kb.call("GetKnowledgeBase")).knowledge_base
    await kb.fails("DeleteKnowledgeBase", "FAILED_PRECONDITION", "KNOWLEDGE_BASE_NOT_EMPTY")
    await kb.fails("DeleteKnowledgeBase", "ABORTED", "ETAG_MISMATCH", etag="1-x", force=True)
    await kb.call("DeleteKnowledgeBase", etag=old.etag, force=True)
    await kb.fails("DeleteKnowledgeBase", "NOT_FOUND", force=True)
    await kb.fails("GetEntry", "NOT_FOUND", name=before.name)
    new = await kb.make()
    assert new.version > old.version, "caches compare versions"
    assert new.entry_count == 0
    assert await kb.search("soon gone") == []
    await kb.fails("GetEntry", "NOT_FOUND", name=before.name)
    await kb.fails("ListEntryRevisions", "NOT_FOUND", parent=before.name)
    again = await kb.create("soon gone")
    assert (again.name, again.revision) == (before.name, 1)
    assert len(await kb.pages("ListEntryRevisions", "revisions", parent=again.name)) == 1
    # What was remembered of the old one is forgotten.
    await kb.call("RecordFeedback", feedback=[{"entry": again.name, "used": 1}], request_id="once")
    assert (await kb.get(again.name)).counters.used == 1
    await kb.call("DeleteKnowledgeBase", force=True)


async def case_an_empty_base_needs_no_force(kb: Base) -> None:
    await kb.call("DeleteKnowledgeBase")
    await kb.fails("GetKnowledgeBase", "NOT_FOUND")


async def case_statistics_count_what_is_there(kb: Base) -> None:
    empty = await kb.call("GetKnowledgeBaseStatistics")
    assert (empty.knowledge_base.entry_count, dict(empty.by_status), len(empty.tags)) == (0, {}, 0)
    facts = await kb.fill(
        [pb.Entry(text=f"Fact number {i} of them", tags=["all", f"t{i % 3}", "ä b"]) for i in range(7)]
    )
    await kb.fill(
        [pb.Entry(text="A summary", kind=pb.ENTRY_KIND_SUMMARY), pb.Entry(text="A case", kind=pb.ENTRY_KIND_CASE)]
    )
    await kb.call("DeleteEntry", name=facts[6].name)
    await kb.create("A draft", status=pb.ENTRY_STATUS_DRAFT)
    for i, entry in enumerate(facts[:4]):
        await kb.feed_back(entry.name, used=10 * (i // 2) + 1, helpful=i, harmful=3 - i)
    found = await kb.call("GetKnowledgeBaseStatistics")
    assert dict(found.by_status) == {"ENTRY_STATUS_ACTIVE": 8, "ENTRY_STATUS_RETIRED": 1, "ENTRY_STATUS_DRAFT": 1}
    assert dict(found.by_kind) == {"ENTRY_KIND_FACT": 8, "ENTRY_KIND_SUMMARY": 1, "ENTRY_KIND_CASE": 1}
    assert [(tag.tag, tag.count) for tag in found.tags] == [("all", 7), ("ä b", 7), ("t0", 3), ("t1", 2), ("t2", 2)]
    assert (found.counters.used, found.counters.helpful, found.counters.harmful) == (24, 6, 6)
    assert [entry.counters.used for entry in found.most_used] == [11, 11, 1, 1]
    assert [entry.name for entry in found.most_used[:2]] == sorted(entry.name for entry in facts[2:4])
    assert [entry.counters.helpful for entry in found.most_helpful] == [3, 2, 1]
    assert [entry.counters.harmful for entry in found.most_harmful] == [3, 2, 1]
    few = await kb.call("GetKnowledgeBaseStatistics", top_count=1)
    assert (len(few.tags), len(few.most_used)) == (1, 1)
    for wrong in (-1, 101):
        await kb.fails("GetKnowledgeBaseStatistics", "INVALID_ARGUMENT", top_count=wrong)
