"""Random operations on both back-ends at once, compared step by step.

A few runs always; more with `make test-faults` (`slow`), or NESYCD_TEST_EXAMPLES=200.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.component.knowledge.congruence.backends import Backend, Base, differences, shown, shown_error

SUBJECTS = ("A spider", "An eagle", "The crab", "spider", "Eagles", "Ünï 🦉")
REST = ("has 8 legs", "has 6 legs", "has eight legs", "lives in the sea", "hunts at night.", "has   8 LEGS!")
TEXTS = st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(REST)).map(" ".join) | st.text(
    st.characters(codec="utf-8"), max_size=12
)
TAGS = st.lists(st.sampled_from(["a", "b c", 'd"', "é"]), max_size=2)
STATUSES, KINDS = st.integers(0, 5), st.integers(0, 4)
SOURCES = st.lists(
    st.builds(pb.Source, case_id=st.sampled_from(["c1", "c2", ""]), author=st.sampled_from(["", "Ada"])), max_size=2
)
FILTERS = st.sampled_from(
    [
        "",
        "status = DRAFT",
        "tags:a",
        "NOT tags:a",
        "source.case_id:c1 OR counters.used > 1",
        "kind = FACT AND tags:*",
        "status != ACTIVE",
        "x",
    ]
)
PICKS = st.integers(0, 30)
# Of small bases that change much, as these are: see scores_within.
TOLERANCE = 0.5


def machine(backends: list[Backend]) -> type[RuleBasedStateMachine]:
    """The operations, on these back-ends."""

    class Machine(RuleBasedStateMachine):
        @initialize()
        def begin(self) -> None:
            self.loop = asyncio.new_event_loop()
            kb = f"d{uuid.uuid4().hex[:12]}"
            self.channels = []
            self.bases = []

            async def connect() -> None:
                for backend in backends:
                    self.channels.append(grpc.aio.insecure_channel(backend.process.address))
                    self.bases.append(Base(kb, backend, KnowledgeServiceStub(self.channels[-1])))

            self.loop.run_until_complete(connect())
            self.names: list[str] = []
            self.etags: list[str] = [""]
            self.both("CreateKnowledgeBase", knowledge_base_id=kb)

        def teardown(self) -> None:
            if not hasattr(self, "loop"):
                return

            async def end() -> None:
                for base, channel in zip(self.bases, self.channels, strict=True):
                    await base.call("DeleteKnowledgeBase", force=True)
                    await channel.close()

            self.loop.run_until_complete(end())
            self.loop.close()

        def both(self, method: str, **fields: Any) -> Any:
            """Calls a method on both; the answers must be alike. Returns the first one, None for an error."""

            async def one(base: Base) -> Any:
                request = base._request(method, None, dict(fields))
                try:
                    answer = await getattr(base.stub, method)(request, timeout=30)
                except grpc.aio.AioRpcError as error:
                    told = shown_error(error)
                    assert told["code"] not in ("INTERNAL", "UNKNOWN", "UNAVAILABLE"), (base.backend.name, told)
                    base.seen.append([method, told])
                    return None
                base.seen.append([method, shown(answer)])
                return answer

            async def all_of_them() -> list[Any]:
                return await asyncio.gather(*(one(base) for base in self.bases))

            answers = self.loop.run_until_complete(all_of_them())
            for base in self.bases[1:]:
                found = differences(self.bases[0].seen[-1], base.seen[-1], TOLERANCE)
                assert not found, "\n".join([f"{method} {fields}"[:500], *found[:10]])
            return answers[0]

        def name(self, pick: int) -> str:
            if not self.names or pick == 30:
                return f"{self.bases[0].name}/entries/00000000-0000-4000-8000-000000000000"
            return self.names[pick % len(self.names)]

        def known(self, entry: pb.Entry) -> None:
            if entry.name not in self.names:
                self.names.append(entry.name)
            self.etags.append(entry.etag)

        @rule(
            text=TEXTS,
            kind=KINDS,
            status=STATUSES,
            tags=TAGS,
            sources=SOURCES,
            merge=st.booleans(),
            reviewed=st.booleans(),
        )
        def create(
            self, text: str, kind: int, status: int, tags: list[str], sources: list[pb.Source], **options: bool
        ) -> None:
            entry = pb.Entry(text=text, kind=kind, status=status, tags=tags, sources=sources)
            answer = self.both("CreateEntry", entry=entry, **options)
            if answer is not None:
                self.known(answer.entry)

        @rule(texts=st.lists(TEXTS, max_size=5), merge=st.booleans())
        def create_many(self, texts: list[str], merge: bool) -> None:
            requests = [pb.CreateEntryRequest(entry=pb.Entry(text=text), merge=merge) for text in texts]
            answer = self.both("BatchCreateEntries", requests=requests)
            for result in answer.results if answer is not None else ():
                if result.HasField("entry"):
                    self.known(result.entry)

        @rule(
            pick=PICKS, text=TEXTS, kind=KINDS, status=STATUSES, tags=TAGS, sources=SOURCES, guard=PICKS, reviewed=st.booleans(),
            paths=st.lists(st.sampled_from("text kind status tags sources title index_text superseded_by".split()), max_size=3), other=PICKS,
        )  # fmt: skip
        def update(self, pick: int, guard: int, paths: list[str], reviewed: bool, other: int, **fields: Any) -> None:
            etag = self.etags[guard % len(self.etags)] if guard > 20 else ""
            entry = pb.Entry(
                name=self.name(pick), etag=etag, superseded_by=self.name(other) if other > 15 else "", **fields
            )
            answer = self.both(
                "UpdateEntry", entry=entry, update_mask={"paths": paths}, reviewed=reviewed, author="Bea"
            )
            if answer is not None:
                self.known(answer.entry)

        @rule(pick=PICKS)
        def retire(self, pick: int) -> None:
            self.both("DeleteEntry", name=self.name(pick), reason="why")

        @rule(pick=PICKS, revision=st.integers(-1, 4))
        def roll_back(self, pick: int, revision: int) -> None:
            self.both("RollbackEntry", name=self.name(pick), revision=revision)

        @rule(pick=PICKS, decision=st.integers(0, 5), others=st.lists(PICKS, max_size=2))
        def resolve(self, pick: int, decision: int, others: list[int]) -> None:
            self.both(
                "ResolveReview", name=self.name(pick), decision=decision, others=[self.name(other) for other in others]
            )

        @rule(picks=st.lists(PICKS, max_size=3), used=st.integers(-1, 3), request_id=st.sampled_from(["", "r1", "r2"]))
        def feed_back(self, picks: list[int], used: int, request_id: str) -> None:
            feedback = [{"entry": self.name(pick), "used": used, "helpful": pick % 2} for pick in picks]
            self.both("RecordFeedback", feedback=feedback, request_id=request_id)

        @rule(
            query=TEXTS,
            filter=FILTERS,
            top_k=st.integers(0, 12),
            weight=st.sampled_from([0.0, 0.5]),
            pick=PICKS,
            case=st.sampled_from(["", "c1"]),
        )
        def search(self, query: str, filter: str, top_k: int, weight: float, pick: int, case: str) -> None:
            # All that fit, so that scores that nearly tie cut nothing off.
            fields = {"query": query, "filter": filter, "feedback_weight": weight, "exclude_sole_source_case": case}
            exclude = [self.name(pick)] if pick > 25 else []
            self.both("SearchEntries", top_k=100 if top_k else 0, exclude_entries=exclude, **fields)

        @rule(filter=FILTERS, size=st.integers(0, 4))
        def look(self, filter: str, size: int) -> None:
            self.both("ListEntries", filter=filter, page_size=size)
            self.both("ListReviews", page_size=size)
            self.both("GetKnowledgeBase")
            self.both("GetKnowledgeBaseStatistics")

        @rule(pick=PICKS)
        def history(self, pick: int) -> None:
            self.both("ListEntryRevisions", parent=self.name(pick))
            self.both("GetEntryRevision", name=f"{self.name(pick)}/revisions/{pick % 4}")

    return Machine


def _run(backends: list[Backend], examples: int, steps: int) -> None:
    checks = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, derandomize=examples < 10,
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip
    run_state_machine_as_test(machine(backends), settings=checks)


def test_a_few_random_lives_are_the_same_on_both_stores(backends: list[Backend]) -> None:
    _run(backends, int(os.environ.get("NESYCD_TEST_EXAMPLES", "5")), 30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_random_lives_are_the_same_on_both_stores(backends: list[Backend]) -> None:
    _run(backends, 100, 60)
