"""Searches by meaning, over an embeddings endpoint whose vectors are counts of pairs of letters."""

from __future__ import annotations

from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.component.knowledge.congruence.backends import Base, scores_within
from tests.component.knowledge.congruence.cases_search import corpus
from tests.embeddings import DIMENSION

VECTORS = True
BM25, VECTOR, HYBRID = pb.SEARCH_MODE_BM25, pb.SEARCH_MODE_VECTOR, pb.SEARCH_MODE_HYBRID
RELATIVE, RANK = pb.FUSION_RELATIVE_SCORE, pb.FUSION_RANK
TEXTS = [
    "Eagles have wings",
    "An eagle is a bird",
    "Crabs walk sideways",
    "Gold is a metal",
    "Rivers flow to the sea",
    "Birds fly",
]


async def case_a_base_names_its_embedder(kb: Base) -> None:
    base = (await kb.call("GetKnowledgeBase")).knowledge_base
    assert (base.embedder, base.embedding_dimension) == (f"fake-embedding/{DIMENSION}", DIMENSION)
    assert not base.HasField("embedder_rebuild")


async def case_vectors_rank_by_cosine(kb: Base) -> None:
    await kb.fill(TEXTS)
    for query in ("eagle", "wings of eagles", "metal", "sea river", "bird flight", "???"):
        found = (await kb.call("SearchEntries", query=query, mode=VECTOR, top_k=10)).results
        assert len(found) == len(TEXTS)
        scores = [result.score for result in found]
        assert scores == sorted(scores, reverse=True) and -1.001 <= scores[-1] and scores[0] <= 1.001
    found = (await kb.call("SearchEntries", query="Gold is a metal", mode=VECTOR, top_k=1, explain=True)).results
    assert (
        found[0].entry.text == "Gold is a metal" and abs(found[0].score - 1) < 1e-3 and "cosine" in found[0].explanation
    )


async def case_vectors_follow_changes_at_once(kb: Base) -> None:
    made = await kb.create("Something quite else")
    await kb.create("Another thing here")
    await kb.update(made.name, "text", text="Zebras in Zanzibar", reviewed=True)
    found = (await kb.call("SearchEntries", query="Zebras in Zanzibar", mode=VECTOR)).results
    assert found[0].entry.name == made.name and found[0].score > 0.999
    await kb.update(made.name, "title", title="keeps its vector")
    await kb.feed_back(made.name, used=1)
    found = (await kb.call("SearchEntries", query="Zebras in Zanzibar", mode=VECTOR)).results
    assert found[0].score > 0.999
    await kb.update(made.name, "index_text", index_text="Quick quokkas")
    assert (await kb.search("Quick quokkas", mode=VECTOR))[0] == "Zebras in Zanzibar"
    await kb.call("DeleteEntry", name=made.name)
    assert await kb.search("Quick quokkas", mode=VECTOR) == ["Another thing here"]


async def case_filters_and_exclusion_hold_for_vectors(kb: Base) -> None:
    made = await kb.fill(corpus(30, seed=5))
    for mode in (VECTOR, HYBRID):
        for fields in (
            {"filter": "tags:t1"}, {"filter": "kind = FACT AND NOT tags:t2"}, {"exclude_sole_source_case": "case-1"},
            {"exclude_entries": [entry.name for entry in made[:10]]}, {"filter": "source.run:runs/1", "exclude_sole_source_case": "case-3"},
            {"filter": "tags:absent"},
        ):  # fmt: skip
            await kb.call("SearchEntries", query="eagle wing ocean", mode=mode, top_k=8, **fields)
    assert await kb.search("eagle", mode=VECTOR, filter="tags:absent") == []
    names = {entry.name for entry in made[:10]}
    found = (await kb.call("SearchEntries", query="eagle", mode=VECTOR, top_k=100, exclude_entries=list(names))).results
    assert len(found) == 20 and not names & {result.entry.name for result in found}


async def case_hybrid_puts_both_together(kb: Base) -> None:
    await kb.fill(corpus(40, seed=6))
    for query in ("eagle wing", "gold melts near ocean", "spider"):
        for fusion in (RELATIVE, RANK, pb.FUSION_UNSPECIFIED):
            for weight in (0.25, 0.5, 0.8):
                fields = {"fusion": fusion, "hybrid_weight": weight}
                await kb.call("SearchEntries", query=query, mode=HYBRID, top_k=5, explain=True, **fields)


async def case_weight_0_is_words_and_weight_1_is_meaning(kb: Base) -> None:
    await kb.fill(corpus(25, seed=7))
    query = "eagle wing leg"
    words = await kb.search(query, mode=BM25, top_k=5)
    meaning = await kb.search(query, mode=VECTOR, top_k=5)
    for fusion in (RELATIVE, RANK):
        assert await kb.search(query, mode=HYBRID, hybrid_weight=0.0, top_k=5, fusion=fusion) == words
        assert await kb.search(query, mode=HYBRID, hybrid_weight=1.0, top_k=5, fusion=fusion) == meaning
    assert await kb.search("zzz", mode=HYBRID, hybrid_weight=0.0) == []
    assert len(await kb.search("zzz", mode=HYBRID, top_k=5)) == 5


async def case_hybrid_is_the_default_here(kb: Base) -> None:
    await kb.fill(TEXTS)
    unsaid = (await kb.call("SearchEntries", query="eagle bird", explain=True)).results
    hybrid = (await kb.call("SearchEntries", query="eagle bird", mode=HYBRID, explain=True)).results
    assert [r.entry.name for r in unsaid] == [r.entry.name for r in hybrid] and len(unsaid) == 3


async def case_minimum_scores_hold_for_every_mode(kb: Base) -> None:
    await kb.fill(TEXTS)
    for mode in (VECTOR, HYBRID):
        found = (await kb.call("SearchEntries", query="eagle bird", mode=mode, top_k=10)).results
        middle = (found[0].score + found[1].score) / 2
        fewer = (await kb.call("SearchEntries", query="eagle bird", mode=mode, top_k=10, minimum_score=middle)).results
        assert len(fewer) == 1
    assert await kb.search("eagle", mode=VECTOR, minimum_score=2.0) == []


@scores_within(0.2)
async def case_feedback_weighs_in_every_mode(kb: Base) -> None:
    entries = await kb.fill(TEXTS)
    await kb.feed_back(entries[0].name, harmful=20)
    await kb.feed_back(entries[3].name, helpful=5)
    for mode in (BM25, VECTOR, HYBRID):
        await kb.call("SearchEntries", query="eagle metal wings", mode=mode, top_k=4, feedback_weight=0.7, explain=True)


async def case_an_import_gets_vectors_too(kb: Base) -> None:
    file = "".join(f'{{"text": "Imported thing number w{i}"}}\n' for i in range(70))
    assert (await kb.import_file(file, reviewed=True)).created == 70
    for mode in (VECTOR, HYBRID):
        found = (await kb.call("SearchEntries", query="Imported thing number w42", mode=mode, top_k=1)).results
        assert found[0].entry.text == "Imported thing number w42"


async def case_what_means_the_same_waits_for_a_person(kb: Base) -> None:
    old = await kb.create("The owl hunts small animals at night in the dark forest")
    new = await kb.create("The owl hunts small animals at night in the dark forests here")
    assert new.status == pb.ENTRY_STATUS_DRAFT and list(new.conflicting_entries) == [old.name], new
    assert (await kb.create("Copper melts at 1085 degrees")).status == pb.ENTRY_STATUS_ACTIVE
