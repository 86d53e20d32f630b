"""Searches by words: ranking, filters, exclusion, limits. A base without an embedder."""

from __future__ import annotations

import random

from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.component.knowledge.congruence.backends import Base, scores_within

WORDS = (
    "eagle wing leg spider crab ocean river mountain number three seven copper gold melts weighs lives near far".split()
)


def corpus(count: int = 60, seed: int = 1) -> list[pb.Entry]:
    """Entries with words of different frequency and texts of different length."""
    rng = random.Random(seed)
    weights = [1 / (i + 1) for i in range(len(WORDS))]
    return [
        pb.Entry(
            text=" ".join(rng.choices(WORDS, weights, k=rng.randint(3, 25))) + f" id{i}",
            tags=[f"t{i % 5}"],
            kind=1 + i % 3,
            sources=[pb.Source(case_id=f"case-{i % 7}", run=f"runs/r{i % 2}")] if i % 4 else [],
        )
        for i in range(count)
    ]


async def case_ranking_is_lucene_s_bm25(kb: Base) -> None:
    await kb.fill(corpus())
    rng = random.Random(2)
    for _ in range(25):
        query = " ".join(rng.choices(WORDS, k=rng.randint(1, 8)))
        await kb.call("SearchEntries", query=query, top_k=20)
    found = (await kb.call("SearchEntries", query="id7")).results
    assert len(found) == 1 and found[0].entry.text.endswith("id7")


async def case_a_known_score_is_right(kb: Base) -> None:
    await kb.fill(["alpha beta", "alpha gamma gamma delta", "beta delta epsilon zeta eta theta"])
    found = (await kb.call("SearchEntries", query="gamma")).results
    # idf = ln(1 + (3 - 1 + 0.5) / 1.5), tf 2, length 4 of 4 on average: 0.9808 * 2 / (2 + 1.2)
    assert [round(result.score, 3) for result in found] == [round(0.980829 * 2 / 3.2, 3)]


async def case_words_of_the_query_count_as_often_as_they_stand_there(kb: Base) -> None:
    await kb.fill(["red fish", "blue bird", "red bird", *(f"blue thing {i}" for i in range(5))])
    one = (await kb.call("SearchEntries", query="red bird", top_k=10)).results
    two = (await kb.call("SearchEntries", query="red red red bird", top_k=10)).results
    assert two[0].score > one[0].score
    assert two[1].entry.text == "red fish"


async def case_only_the_first_512_words_count(kb: Base) -> None:
    await kb.fill(["needle in here", "hay in here", "nothing else"])
    assert await kb.search("hay " * 511 + "needle", top_k=5) == ["hay in here", "needle in here"]
    assert await kb.search("hay " * 512 + "needle", top_k=5) == ["hay in here"]
    await kb.search(" ".join(f"w{i}" for i in range(600)) + " needle")
    assert await kb.search("???! " * 600 + "needle") == ["needle in here"], "signs are no words"


async def case_words_of_many_scripts_are_found(kb: Base) -> None:
    texts = [
        "Ein Vogel fliegt über die Straße", "орёл имеет два крыла", "النسر له جناحان", "鷹には翼が二枚ある 鷹", "ο αετός έχει φτερά",
        "naïve café résumé", "x_y snake_case under_score", "İstanbul ISTANBUL", "e=mc² ½ №5 Ⅳ", "don't can't won't", "C++ and C#",
        "ｆｕｌｌ ｗｉｄｔｈ", "emoji 🦉🦅 only", "नमस्ते दुनिया", "hello\tworld\nlines", "e\u0301 decomposed", "٣ ٤ digits", "3.14 1,000 a-b",
    ]  # fmt: skip
    await kb.fill(texts)
    for query in (
        "VOGEL", "straße", "STRASSE", "ОРЁЛ", "крыла", "النسر", "鷹", "鷹には翼が二枚ある", "ΑΕΤΌΣ", "αετος", "café", "cafe", "snake",
        "snake_case", "x_y", "y", "istanbul", "mc²", "mc", "½", "№5", "5", "don't", "t", "don", "c", "c++", "full", "ｆｕｌｌ", "🦉", "नमस्ते",
        "world", "é", "e\u0301", "٣", "3", "14", "000", "a b", "_", "", "   x   ",
    ):  # fmt: skip
        if query:
            await kb.call("SearchEntries", query=query, top_k=10)
    assert await kb.search("VOGEL") == [texts[0]]
    assert await kb.search("крыла") == [texts[1]]
    assert await kb.search("case") == [texts[6]]


async def case_stop_words_and_endings_are_words(kb: Base) -> None:
    await kb.fill(["the and of a is", "running runs run", "x y"])
    assert await kb.search("the") == ["the and of a is"]
    assert await kb.search("runner") == []
    assert await kb.search("runs") == ["running runs run"]


async def case_what_fits_nothing_finds_nothing(kb: Base) -> None:
    assert await kb.search("anything") == []
    await kb.create("Something there")
    for query in (
        "absent",
        "???",
        "🦉",
        "\u202e",
        "_",
        "\0",
        "a\0b",
        '"',
        "\\",
        "'; DROP TABLE entries; --",
        "{}",
        "...",
    ):
        assert await kb.search(query) == [], query
    for query in ("", " ", "\n\t"):
        await kb.fails("SearchEntries", "INVALID_ARGUMENT", query=query)
    await kb.search("something\0there")
    await kb.search("w " * 100_000 + "there")


async def case_numbers_of_a_search_are_checked(kb: Base) -> None:
    await kb.fill(f"thing number n{i}" for i in range(120))
    for top_k, count in ((0, 3), (1, 1), (100, 100), (7, 7)):
        found = (await kb.call("SearchEntries", query="thing", top_k=top_k)).results
        assert len(found) == count
        assert [r.entry.name for r in found] == sorted(r.entry.name for r in found), "ties go by id"
    for fields in (
        {"top_k": -1}, {"top_k": 101}, {"top_k": -(2**31)}, {"mode": 9}, {"fusion": 9}, {"hybrid_weight": 1.5}, {"hybrid_weight": -0.1},
        {"hybrid_weight": float("nan")}, {"minimum_score": float("nan")}, {"minimum_score": float("inf")}, {"feedback_weight": 1.5},
        {"feedback_weight": -0.1}, {"feedback_weight": float("nan")}, {"exclude_entries": ["x"]}, {"exclude_entries": [kb.name]},
        {"exclude_entries": [f"{kb.name}/entries/{i:08x}-0000-4000-8000-000000000000" for i in range(1001)]}, {"parent": "x"},
    ):  # fmt: skip
        await kb.fails("SearchEntries", "INVALID_ARGUMENT", query="thing", **fields)
    for mode in (pb.SEARCH_MODE_VECTOR, pb.SEARCH_MODE_HYBRID):
        await kb.fails("SearchEntries", "FAILED_PRECONDITION", "NO_EMBEDDER", query="thing", mode=mode)
    assert len(await kb.search("thing", mode=pb.SEARCH_MODE_BM25)) == 3


async def case_a_minimum_score_leaves_out_what_is_below(kb: Base) -> None:
    await kb.fill(["rare common", "common one", "common two", "common three more words here"])
    everything = (await kb.call("SearchEntries", query="rare common", top_k=10)).results
    assert len(everything) == 4
    middle = (everything[0].score + everything[1].score) / 2
    assert await kb.search("rare common", top_k=10, minimum_score=middle) == ["rare common"]
    assert len(await kb.search("rare common", top_k=10, minimum_score=-5.0)) == 4
    assert await kb.search("rare common", top_k=10, minimum_score=1e9) == []


async def case_entries_and_sole_sources_are_excluded(kb: Base) -> None:
    made = await kb.fill(
        [
            pb.Entry(text="owl one", sources=[pb.Source(case_id="c1")]),
            pb.Entry(text="owl two", sources=[pb.Source(case_id="c1"), pb.Source(case_id="c2")]),
            pb.Entry(
                text="owl three", sources=[pb.Source(case_id="c1", author="a"), pb.Source(case_id="c1", author="b")]
            ),
            pb.Entry(text="owl four"),
            pb.Entry(text="owl five", sources=[pb.Source(case_id="c1"), pb.Source(author="a person")]),
            pb.Entry(text="owl six", sources=[pb.Source(case_id="C1")]),
            pb.Entry(text="owl seven", sources=[pb.Source(case_id='c"1\\')]),
        ]
    )
    names = {entry.text: entry.name for entry in made}

    async def found(**fields: object) -> set[str]:
        return {text.removeprefix("owl ") for text in await kb.search("owl", top_k=10, **fields)}

    everything = {"one", "two", "three", "four", "five", "six", "seven"}
    assert await found() == everything
    assert await found(exclude_sole_source_case="c1") == everything - {"one", "three"}
    assert await found(exclude_sole_source_case='c"1\\') == everything - {"seven"}
    assert await found(exclude_sole_source_case="absent") == everything
    assert await found(exclude_entries=[names["owl one"], names["owl four"]]) == everything - {"one", "four"}
    assert await found(exclude_entries=[f"{kb.name}/entries/00000000-0000-4000-8000-000000000000"]) == everything
    both = {"exclude_entries": [names["owl two"]], "exclude_sole_source_case": "c1", "filter": 'source.case_id:"c1"'}
    assert await found(**both) == {"five"}
    one, _ = (
        made[0],
        await kb.call("CreateEntry", entry={"text": "owl one", "sources": [{"case_id": "c9"}]}, merge=True),
    )
    assert "one" in await found(exclude_sole_source_case="c1"), one
    # Results that are left out make room for others.
    assert len(await kb.search("owl", top_k=2, exclude_entries=[names["owl one"], names["owl two"]])) == 2


async def case_only_active_entries_are_found_unless_a_status_is_named(kb: Base) -> None:
    for number in range(1, 5):
        await kb.create(f"status w{number}", status=number)
    assert await kb.search("status", top_k=9) == ["status w2"]
    assert await kb.search("status", top_k=9, filter="kind = FACT") == ["status w2"]
    assert sorted(await kb.search("status", top_k=9, filter="status = DRAFT OR status = RETIRED")) == [
        "status w1",
        "status w4",
    ]
    assert len(await kb.search("status", top_k=9, filter="NOT status = ACTIVE")) == 3
    assert len(await kb.search("status", top_k=9, filter="status != ACTIVE OR kind = FACT")) == 4


@scores_within(0.2)
async def case_the_next_search_sees_a_change(kb: Base) -> None:
    made = await kb.create("zero")
    for i in range(20):
        await kb.update(made.name, "text", text=f"round w{i}", reviewed=True)
        assert await kb.search(f"w{i}") == [f"round w{i}"]
        assert i == 0 or await kb.search(f"w{i - 1}") == []
    found = await kb.call("SearchEntries", query="round")
    assert found.version == (await kb.call("GetKnowledgeBase")).knowledge_base.version
    # Statistics of words follow: a word that was everywhere is rare again.
    await kb.call("SearchEntries", query="round", explain=True)


@scores_within(0.2)
async def case_scores_follow_updates_and_retirements(kb: Base) -> None:
    entries = await kb.fill(corpus(40, seed=3))
    for entry in entries[:10]:
        await kb.update(entry.name, "text", text=f"short eagle {entry.text.split()[-1]}", reviewed=True)
    for entry in entries[10:15]:
        await kb.call("DeleteEntry", name=entry.name)
    for query in ("eagle", "eagle wing", "short", "spider crab ocean", "gold melts"):
        await kb.call("SearchEntries", query=query, top_k=20)


@scores_within(0.3)
async def case_the_index_text_is_what_is_searched(kb: Base) -> None:
    made = await kb.create("What is read", kind=pb.ENTRY_KIND_CASE, index_text="what is indexed")
    assert await kb.search("indexed") == ["What is read"]
    assert await kb.search("read") == []
    await kb.update(made.name, "index_text")
    assert await kb.search("read") == ["What is read"]
    assert await kb.search("indexed") == []
    # A title is for people.
    await kb.update(made.name, "title", title="entitled")
    assert await kb.search("entitled") == []


async def case_a_score_is_explained_on_request(kb: Base) -> None:
    await kb.fill(["owl and owl", "owl once", "nothing"])
    found = (await kb.call("SearchEntries", query="owl", explain=True)).results
    assert all("bm25" in result.explanation for result in found) and len(found) == 2
    found = (await kb.call("SearchEntries", query="owl")).results
    assert not any(result.explanation for result in found)


@scores_within(0.2)
async def case_feedback_weighs(kb: Base) -> None:
    entries = await kb.fill(["owl first", "owl second", "owl third"])
    await kb.feed_back(entries[0].name, harmful=8)
    await kb.feed_back(entries[2].name, helpful=8)
    plain = (await kb.call("SearchEntries", query="owl", top_k=9)).results
    weighed = (await kb.call("SearchEntries", query="owl", top_k=9, feedback_weight=1.0, explain=True)).results
    assert [r.entry.text for r in weighed] == ["owl third", "owl second", "owl first"]
    base = plain[0].score
    assert [round(r.score / base, 3) for r in weighed] == [1.8, 1.0, 0.2]
    half = (await kb.call("SearchEntries", query="owl", top_k=1, feedback_weight=0.5)).results
    assert [round(r.score / base, 3) for r in half] == [1.4]
    assert await kb.search("owl", top_k=9, feedback_weight=1.0, minimum_score=base * 1.5) == ["owl third"]
    assert await kb.search("owl", top_k=9, filter="counters.harmful < 3") == await kb.search(
        "owl", top_k=9, filter="NOT counters.harmful >= 3"
    )


async def case_a_batch_of_searches_has_an_answer_or_an_error_for_each(kb: Base) -> None:
    await kb.fill(f"row w{i}" for i in range(5))
    rows = await kb.batch_search(
        {"query": "w1"}, {"query": ""}, {"query": "w3", "filter": "nonsense ="}, {"query": "w4", "top_k": -1},
        {"query": "w2", "mode": pb.SEARCH_MODE_VECTOR}, {"query": "absent"}, {"query": "w0", "parent": "x"},
    )  # fmt: skip
    assert [row.row_id for row in rows] == [f"row {i}" for i in range(7)]
    assert [row.WhichOneof("result") for row in rows] == "response error error error error response error".split()
    many = await kb.batch_search(*({"query": f"w{i % 5}", "top_k": 1} for i in range(300)))
    assert [row.response.results[0].entry.text for row in many] == [f"row w{i % 5}" for i in range(300)]
    assert await kb.batch_search() == []
