"""Filters: each field, each operator, everything that could be mistaken for something else; in lists, searches, exports."""

from __future__ import annotations

from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.component.knowledge.congruence.backends import Base

ENTRIES = [
    ("a", {"tags": ["x", "y"], "sources": [{"case_id": "c1", "run": "runs/1", "author": "Ada"}]}),
    ("b", {"tags": ["x y"], "kind": pb.ENTRY_KIND_SUMMARY, "sources": [{"citation": "A book, p. 3"}]}),
    ("c", {"tags": ['q"uote', "back\\slash"], "status": pb.ENTRY_STATUS_DRAFT, "sources": [{"author": "O'Brien"}]}),
    ("d", {"kind": pb.ENTRY_KIND_CASE, "status": pb.ENTRY_STATUS_RETIRED, "sources": [{"case_id": "c1"}, {"case_id": "c2"}]}),
    ("e", {"tags": ["X", "ünï", "*", "a*"], "sources": [{"teacher_call": "calls/1"}]}),
    ("f", {}),
]  # fmt: skip
COUNTERS = {"a": (1, 0, 0), "b": (5, 3, 0), "d": (5, 0, 2)}

EXPECTED = {
    "": "abcdef",
    "status = ACTIVE": "abef", "status = ENTRY_STATUS_ACTIVE": "abef", "status:DRAFT": "c", "status != ACTIVE": "cd", 'status = "RETIRED"': "d",
    "kind = FACT": "acef", "kind:SUMMARY": "b", "kind != FACT": "bd", "kind = ENTRY_KIND_CASE": "d",
    "tags:x": "a", "tags = x": "a", "tags != x": "bcdef", "tags:X": "e", 'tags:"x y"': "b", "tags:'x y'": "b", 'tags:"q\\"uote"': "c",
    'tags:"back\\\\slash"': "c", "tags:ünï": "e", "tags:uni": "", "tags:*": "abce", 'tags:"*"': "abce", "NOT tags:*": "df", "tags:a*": "e",
    "tags:x*": "", "tags:absent": "", "tags:''": "",
    "source.case_id:c1": "ad", "sources.case_id = c1": "ad", "source.case_id != c1": "bcef", "source.case_id:*": "ad",
    "source.run:runs/1": "a", 'source.citation:"A book, p. 3"': "b", 'source.author:"O\'Brien"': "c", "source.author:*": "ac",
    "source.teacher_call:calls/1": "e", "source.author:ada": "", "-source.author:*": "bdef", "source.citation:book": "",
    "counters.used = 5": "bd", "counters.used:5": "bd", "counters.used != 5": "acef", "counters.used > 1": "bd", "counters.used >= 1": "abd",
    "counters.used < 5": "acef", "counters.used <= 5": "abcdef", "counters.helpful > 0": "b", "counters.harmful > 0": "d",
    "counters.harmful = 0": "abcef", "counters.used < 0": "", "counters.used > 999999999999999999": "", "counters.used < 999999999999999999": "abcdef",
    "tags:x AND kind = FACT": "a", "tags:x kind = FACT": "a", "tags:x OR tags:X": "ae", "kind = FACT AND tags:x OR tags:X": "ae",
    "(kind = FACT AND tags:x) OR tags:'x y'": "ab", "NOT (tags:x OR tags:X)": "bcdf", "NOT tags:x": "bcdef", "-tags:x": "bcdef",
    "- tags:x": "bcdef", "NOT NOT_A_FIELD = 1": None, "NOT (NOT tags:x)": "a", "((((tags:x))))": "a", "tags:x AND NOT tags:y": "",
    "status = ACTIVE AND (tags:absent OR NOT counters.used > 0)": "ef",
    "status = NOTHING": None, "status = active": None, "status > ACTIVE": None, "kind < FACT": None, "kind = *": None, "tags > x": None,
    "text = x": None, "name = x": None, "tags": None, "tags:": None, "= x": None, "(tags:x": None, "tags:x)": None, "tags:x AND": None, "AND": None,
    "OR tags:x": None, "tags:x OR": None, "NOT": None, "tags:\"x": None, "counters.used = x": None, "counters.used = -1": None, "counters.used = 1.5": None,
    "counters.used = 99999999999999999999": None, "counters.used = *": None, "counters = 1": None, "source = x": None, "source.nothing:x": None, "sources.case_id > x": None,
    "tags:x && tags:y": None, "tags:x; DROP TABLE entries": None, "' OR 1=1 --": None, "tags.x:y": None, "tags:(x OR y)": None, "*": None,
    "(" * 40 + "tags:x" + ")" * 40: None, "tags:" + "x" * 5000: None,
}  # fmt: skip
HARMLESS = [
    'tags:"\' OR 1=1 --"', "tags:\"'; DROP TABLE entries; --\"", 'tags:"x\\" OR \\"1\\"=\\"1"', 'tags:"}}]} {"', 'tags:"%"', 'tags:"_"', 'tags:"x\0y"',
    'tags:"\u202e"', 'source.case_id:"{operator: Equal}"', 'tags:"?"', "tags:[x]", "tags:{x}", 'tags:"\n"', 'source.author:"ADA"', 'tags:"🦉"',
]  # fmt: skip


async def _fill(kb: Base) -> None:
    entries = await kb.fill(pb.Entry(text=f"entry {name}", **fields) for name, fields in ENTRIES)
    for entry in entries:
        used, helpful, harmful = COUNTERS.get(entry.text[-1], (0, 0, 0))
        if used:
            await kb.feed_back(entry.name, used=used, helpful=helpful, harmful=harmful)


async def case_lists_fit_their_filter(kb: Base) -> None:
    await _fill(kb)
    for filter, expected in EXPECTED.items():
        if expected is None:
            await kb.fails("ListEntries", "INVALID_ARGUMENT", _reason(filter), filter=filter)
        else:
            assert await kb.texts(filter) == [f"entry {name}" for name in expected], filter
    for filter in HARMLESS:
        assert await kb.texts(filter) == [], filter


async def case_searches_fit_their_filter(kb: Base) -> None:
    await _fill(kb)
    for filter, expected in EXPECTED.items():
        if expected is None:
            await kb.fails("SearchEntries", "INVALID_ARGUMENT", _reason(filter), query="entry", filter=filter)
            continue
        found = sorted(text[-1] for text in await kb.search("entry", filter=filter, top_k=100))
        wanted = expected if "status" in filter else expected.replace("c", "").replace("d", "")
        assert found == sorted(wanted), filter
    for filter in HARMLESS:
        assert await kb.search("entry", filter=filter) == [], filter


async def case_exports_fit_their_filter(kb: Base) -> None:
    await _fill(kb)
    for filter in ("status = ACTIVE", 'tags:"x y" OR tags:x', "counters.used > 1"):
        data = await kb.export(filter=filter)
        assert data.count(b"\n") == len(EXPECTED.get(filter, "xx"))
    await kb.stream_fails(
        kb.stub.ExportEntries(pb.ExportEntriesRequest(parent=kb.name, filter="x")), "INVALID_ARGUMENT", "INVALID_FILTER"
    )
    await kb.stream_fails(kb.stub.ExportEntries(pb.ExportEntriesRequest(parent=kb.name, format=9)), "INVALID_ARGUMENT")


def _reason(filter: str) -> str:
    return "INVALID_ARGUMENT" if len(filter) > 4096 else "INVALID_FILTER"
