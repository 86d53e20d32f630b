"""What entries do to answers, and who is retired for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from nesycd.knowledge.v1 import (
    ENTRY_STATUS_ACTIVE,
    ENTRY_STATUS_RETIRED,
    Entry,
    EntryRevision,
    ListEntryRevisionsResponse,
)

from jobs.utility import retire, tabulate
from services.common.errors import Aborted


def answer(row_id: str, correct: bool, *entries: str) -> dict[str, Any]:
    return {"id": row_id, "correct": correct, "entries": [{"name": f"k/entries/{e}", "text": e} for e in entries]}


def test_an_entry_helps_what_is_right_only_with_it_and_harms_what_is_right_only_without_it() -> None:
    answers = [answer("1", True, "a", "b"), answer("2", False, "b"), answer("3", False, "b"), answer("4", True, "a")]
    without = [(0, 0, False), (0, 1, True), (1, 0, True), (2, 0, True), (3, 0, True)]
    sources = {"a": {"1", "4"}, "b": {"2"}}
    told = tabulate(answers, without, sources=sources, hard={"1", "2"}, retire_below=-1)
    table = {e["entry"]: e for e in told}
    assert [e["entry"] for e in told] == ["b", "a"], "the most harmful first"
    assert {k: table["a"][k] for k in ("used", "helped", "harmed", "score", "retire")} == {
        "used": 2, "helped": 1, "harmed": 0, "score": 1, "retire": False,
    }  # fmt: skip
    # Row 4 was right before: it is no case that the entry could fix.
    assert (table["a"]["cases"], table["a"]["fixed"], table["b"]["cases"], table["b"]["fixed"]) == (1, 1, 1, 0)
    assert (table["b"]["helped"], table["b"]["harmed"], table["b"]["score"], table["b"]["retire"]) == (0, 2, -2, True)
    assert table["a"]["own"] == {"used": 2, "helped": 1, "harmed": 0}, "all that it read came from these rows"
    assert table["b"]["own"] == {"used": 1, "helped": 0, "harmed": 1}, "one harm to its case, one to a neighbour"


def test_the_threshold_decides_who_is_retired_and_none_that_does_no_harm_is() -> None:
    once = [answer("1", False, "a")], [(0, 0, True)]
    for below, retired in ((-1, False), (0, True)):
        (line,) = tabulate(*once, sources={}, hard=set(), retire_below=below)
        assert line["retire"] is retired
    (line,) = tabulate([answer("1", False, "a")], [(0, 0, False)], sources={}, hard=set(), retire_below=0)
    assert not line["retire"]


class Store:
    """As much of the knowledge service as retiring needs."""

    def __init__(self, *history: tuple[str, int]) -> None:
        self.history = list(history)  # author and status, newest first
        self.edited_meanwhile = False
        self.ListEntryRevisions, self.DeleteEntry = self.list, self.delete

    def list(self, request: Any) -> ListEntryRevisionsResponse:
        return ListEntryRevisionsResponse(
            revisions=[
                EntryRevision(author=author, entry=Entry(status=status, etag=str(len(self.history))))
                for author, status in self.history
            ]
        )

    def delete(self, request: Any) -> None:
        if self.edited_meanwhile:
            raise Aborted("somebody was faster")
        assert request.etag == str(len(self.history)) and "2 are right only without it" in request.reason
        self.history.insert(0, (request.author, ENTRY_STATUS_RETIRED))

    async def call(self, method: Any, request: Any, *, what: str) -> Any:
        return method(request)


LINE = {"entry": "a", "used": 3, "helped": 0, "harmed": 2, "retire": True}


async def retired(store: Store, run_id: str = "r") -> int:
    services = SimpleNamespace(knowledge=store, call=store.call)
    return await retire(SimpleNamespace(run_id=run_id, knowledge_base="knowledgeBases/k", services=services), [LINE])  # type: ignore[arg-type]


async def test_what_a_person_puts_back_is_not_retired_again_by_the_same_run() -> None:
    store = Store(("extraction", ENTRY_STATUS_ACTIVE))
    assert await retired(store) == 1
    assert await retired(store) == 1, "killed and begun again"
    assert len(store.history) == 2 and store.history[0][0] == "nesycd run r"
    store.history.insert(0, ("ada", ENTRY_STATUS_ACTIVE))
    assert await retired(store) == 0 and store.history[0][0] == "ada"
    assert await retired(store, "another-run") == 1


async def test_what_a_person_is_editing_or_has_retired_is_left_to_the_person() -> None:
    store = Store(("extraction", ENTRY_STATUS_ACTIVE))
    store.edited_meanwhile = True
    assert await retired(store) == 0
    assert await retired(Store(("ada", ENTRY_STATUS_RETIRED))) == 0
