"""Hygiene and reviews: what repeats or contradicts waits for a person, and what comes of each decision."""

from __future__ import annotations

from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.component.knowledge.congruence.backends import Base

DRAFT, ACTIVE = pb.ENTRY_STATUS_DRAFT, pb.ENTRY_STATUS_ACTIVE
SUPERSEDED, RETIRED = pb.ENTRY_STATUS_SUPERSEDED, pb.ENTRY_STATUS_RETIRED


async def _contradiction(kb: Base) -> tuple[pb.Entry, pb.Entry]:
    old = await kb.create("A spider has 8 legs.", sources=[{"case_id": "c1"}])
    new = await kb.create("A spider has 6 legs.", sources=[{"case_id": "c2"}])
    assert (new.status, new.review_cause) == (DRAFT, pb.REVIEW_CAUSE_CONTRADICTION)
    assert list(new.conflicting_entries) == [old.name] and new.review_reason
    return old, new


async def case_a_contradiction_waits_and_is_not_found(kb: Base) -> None:
    old, new = await _contradiction(kb)
    assert await kb.search("spider legs", top_k=9) == ["A spider has 8 legs."]
    (review,) = (await kb.call("ListReviews")).reviews
    assert review.entry == new and [entry.name for entry in review.conflicts] == [old.name]
    base = (await kb.call("GetKnowledgeBase")).knowledge_base
    assert (base.entry_count, base.active_entry_count) == (2, 1)


async def case_the_same_in_other_words_waits(kb: Base) -> None:
    old = await kb.create("Spiders have 8 legs.")
    new = await kb.create("A spider has eight legs")
    assert (new.status, new.review_cause) == (DRAFT, pb.REVIEW_CAUSE_NEAR_DUPLICATE)
    assert list(new.conflicting_entries) == [old.name]
    # What a person retired does not come back in other words.
    await kb.call("DeleteEntry", name=old.name)
    (review,) = (await kb.call("ListReviews")).reviews
    assert review.conflicts[0].status == RETIRED


async def case_what_differs_comes_in(kb: Base) -> None:
    for text in (
        "7 is a prime number",
        "11 is a prime number",
        "An eagle has 2 wings",
        "A crab has 10 legs",
        "A crab lives in the sea",
    ):
        assert (await kb.create(text)).status == ACTIVE, text
    assert (await kb.call("ListReviews")).reviews == []


async def case_a_person_who_looked_at_it_brings_it_in(kb: Base) -> None:
    await kb.create("A spider has 8 legs.")
    assert (await kb.create("A spider has 6 legs.", reviewed=True)).status == ACTIVE
    other = await kb.create("A wolf has 4 legs")
    changed = await kb.update(other.name, "text", text="A spider has 10 legs", reviewed=True)
    assert changed.status == ACTIVE
    third = await kb.create("An ox has 4 legs")
    waits = await kb.update(third.name, "text", text="A spider has 12 legs")
    assert waits.status == DRAFT and len(waits.conflicting_entries) == 3
    # A change that says nothing else is not looked at.
    title = await kb.update(changed.name, "title", title="Spider")
    assert title.status == ACTIVE


async def case_a_batch_is_compared_with_itself(kb: Base) -> None:
    texts = ("A bat has 2 wings", "A bat has 4 wings", "Bats have two wings", "A bat sleeps by day")
    answer = await kb.call("BatchCreateEntries", requests=[{"entry": {"text": text}} for text in texts])
    assert [result.entry.status for result in answer.results] == [ACTIVE, DRAFT, DRAFT, ACTIVE]
    reviews = await kb.pages("ListReviews", "reviews", page_size=1)
    assert [r.entry.name for r in reviews] == sorted(r.entry.name for r in reviews) and len(reviews) == 2


async def case_approved_it_is_active_and_nothing_else_changes(kb: Base) -> None:
    old, new = await _contradiction(kb)
    answer = await kb.call(
        "ResolveReview", name=new.name, decision=pb.REVIEW_DECISION_APPROVE, etag=new.etag, author="Bea", reason="both"
    )
    assert (answer.entry.status, answer.entry.review_cause, answer.entry.review_reason) == (ACTIVE, 0, "")
    assert not answer.others and not answer.entry.conflicting_entries
    assert await kb.get(old.name) == old
    assert (await kb.call("ListReviews")).reviews == []
    last = (await kb.call("ListEntryRevisions", parent=new.name)).revisions[0]
    assert (last.author, last.reason, last.entry.revision) == ("Bea", "both", 2)
    await kb.fails(
        "ResolveReview", "FAILED_PRECONDITION", "NOT_IN_REVIEW", name=new.name, decision=pb.REVIEW_DECISION_REJECT
    )


async def case_rejected_it_is_retired(kb: Base) -> None:
    old, new = await _contradiction(kb)
    answer = await kb.call("ResolveReview", name=new.name, decision=pb.REVIEW_DECISION_REJECT)
    assert answer.entry.status == RETIRED and await kb.get(old.name) == old
    again = await kb.call(
        "CreateEntry", entry={"text": "A spider has 6 legs", "sources": [{"case_id": "c3"}]}, merge=True
    )
    assert again.merged and again.entry.status == RETIRED


async def case_merged_the_other_one_gets_its_sources(kb: Base) -> None:
    old = await kb.create("Spiders have 8 legs.", sources=[{"case_id": "c1"}])
    new = await kb.create("A spider has eight legs", sources=[{"case_id": "c2"}, {"case_id": "c1"}])
    answer = await kb.call("ResolveReview", name=new.name, decision=pb.REVIEW_DECISION_MERGE, author="Bea")
    assert (answer.entry.status, answer.entry.superseded_by) == (SUPERSEDED, old.name)
    (other,) = answer.others
    assert [source.case_id for source in other.sources] == ["c1", "c2"] and other.revision == 2
    assert await kb.get(old.name) == other and await kb.get(new.name) == answer.entry


async def case_replacing_it_takes_the_place_of_what_it_conflicts_with(kb: Base) -> None:
    old, new = await _contradiction(kb)
    answer = await kb.call("ResolveReview", name=new.name, decision=pb.REVIEW_DECISION_REPLACE)
    assert answer.entry.status == ACTIVE
    assert [(o.name, o.status, o.superseded_by) for o in answer.others] == [(old.name, SUPERSEDED, new.name)]
    assert await kb.search("spider", top_k=9) == ["A spider has 6 legs."]


async def case_others_can_be_named(kb: Base) -> None:
    one, two = await kb.create("A wolf hunts in packs"), await kb.create("Gold melts at 1064 degrees")
    draft = await kb.create("Something undecided", status=DRAFT)
    assert draft.review_cause == 0 and draft.review_reason
    names = [one.name, two.name]
    await kb.fails(
        "ResolveReview", "INVALID_ARGUMENT", name=draft.name, decision=pb.REVIEW_DECISION_MERGE, others=names
    )
    await kb.fails("ResolveReview", "INVALID_ARGUMENT", name=draft.name, decision=pb.REVIEW_DECISION_MERGE)
    await kb.fails("ResolveReview", "INVALID_ARGUMENT", name=draft.name, decision=pb.REVIEW_DECISION_REPLACE)
    for decision in (pb.REVIEW_DECISION_APPROVE, pb.REVIEW_DECISION_REJECT):
        await kb.fails("ResolveReview", "INVALID_ARGUMENT", name=draft.name, decision=decision, others=names)
    for decision in (0, 99, -1):
        await kb.fails("ResolveReview", "INVALID_ARGUMENT", name=draft.name, decision=decision)
    nobody = f"{kb.name}/entries/00000000-0000-4000-8000-000000000000"
    replace = pb.REVIEW_DECISION_REPLACE
    await kb.fails("ResolveReview", "NOT_FOUND", name=draft.name, decision=replace, others=[one.name, nobody])
    await kb.fails("ResolveReview", "NOT_FOUND", name=nobody, decision=replace)
    await kb.fails("ResolveReview", "INVALID_ARGUMENT", name=draft.name, decision=replace, others=[draft.name])
    await kb.fails(
        "ResolveReview", "INVALID_ARGUMENT", name=draft.name, decision=replace, others=["knowledgeBases/z/entries/1"]
    )
    await kb.fails("ResolveReview", "ABORTED", "ETAG_MISMATCH", name=draft.name, decision=replace, etag="1-x")
    assert await kb.get(draft.name) == draft and await kb.get(one.name) == one
    answer = await kb.call("ResolveReview", name=draft.name, decision=replace, others=[*names, one.name])
    assert sorted(other.name for other in answer.others) == sorted(names)


async def case_reviews_go_page_by_page(kb: Base) -> None:
    for i in range(7):
        await kb.create(f"Undecided w{i}", status=DRAFT)
        await kb.create(f"Decided w{i}")
    for size in (1, 3, 7, 50):
        reviews = await kb.pages("ListReviews", "reviews", page_size=size)
        names = [review.entry.name for review in reviews]
        assert len(names) == 7 and names == sorted(names)
    token = (await kb.call("ListReviews", page_size=1)).next_page_token
    await kb.fails("ListEntries", "INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", page_token=token)
    await kb.fails("ListReviews", "INVALID_ARGUMENT", page_size=-1)


async def case_a_draft_says_why_it_waits_until_it_is_decided(kb: Base) -> None:
    made = (await kb.call("CreateEntry", entry={"text": "Maybe", "status": DRAFT}, reason="unsure")).entry
    assert made.review_reason == "unsure"
    decided = await kb.update(made.name, "status", status=ACTIVE)
    assert decided.review_reason == ""
    again = await kb.update(made.name, "status", status=DRAFT, reason="doubts")
    assert again.review_reason == "doubts"
    rolled = (await kb.call("RollbackEntry", name=made.name, revision=1)).entry
    assert (rolled.status, rolled.review_reason) == (DRAFT, "unsure")
