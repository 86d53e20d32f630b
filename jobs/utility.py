"""Whether entries earn their place: what the student answers with those that it finds, and with each one left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nesycd.knowledge.v1 import (
    ENTRY_STATUS_ACTIVE,
    DeleteEntryRequest,
    ListEntryRevisionsRequest,
)

from jobs.asking import ask_student, rows_of, shuffled
from jobs.context import Context
from jobs.serving import request_for, retrieval
from services.common.errors import Aborted, NotFound

_PAGE = 1000
_NOTHING = {"used": 0, "helped": 0, "harmed": 0}


async def measure(context: Context, adapter: str, mode: str) -> list[dict[str, Any]]:
    """Asks about training rows with the entries that they find, and again without each of these.

    Args:
        context: The stage.
        adapter: The student.
        mode: Prompt mode.

    Returns:
        One record an entry that was read, most harmful first; see `tabulate`.
    """
    spec = context.spec
    every = rows_of(context, "train.jsonl")
    chosen = set(shuffled((item.row.id for item in every), spec.seed, "utility")[: spec.knowledge.utility.rows])
    rows = [item for item in every if item.row.id in chosen]
    reading = retrieval(context, gated=False)
    answers = await ask_student(
        context, "utility/with", rows, lambda i: request_for(context, rows[i].row, adapter, mode=mode, retrieval=reading),
        note="asks with entries",
    )  # fmt: skip
    left_out = [(index, place) for index, answer in enumerate(answers) for place in range(len(answer["entries"]))]

    def without(number: int) -> Any:
        index, place = left_out[number]
        texts = [entry["text"] for at, entry in enumerate(answers[index]["entries"]) if at != place]
        return request_for(context, rows[index].row, adapter, mode=mode, given=texts)

    again = await ask_student(
        context, "utility/without", [rows[index] for index, _ in left_out], without, note="asks without each entry"
    )
    return tabulate(
        answers, [(*where, bool(answer["correct"])) for where, answer in zip(left_out, again, strict=True)],
        sources=sources_of(context), hard=hard_of(context), retire_below=spec.knowledge.utility.retire_below,
    )  # fmt: skip


def tabulate(
    answers: Sequence[Mapping[str, Any]], without: Sequence[tuple[int, int, bool]], *, sources: Mapping[str, set[str]],
    hard: set[str], retire_below: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """What each entry did.

    Args:
        answers: Answers with entries.
        without: For each answer's index and each of its entries' places, whether the answer without that entry is right.
        sources: The rows that led to an entry, by its id.
        hard: Rows that were answered wrongly when they were diagnosed.
        retire_below: An entry whose score is below it, and that harmed more than it helped, is to be retired.

    Returns:
        entry (its id), text, used, helped (right with it, wrong without), harmed (the reverse), cases (of its own cases,
        those that were asked and hard), fixed (of these, those that are right now), score (helped - harmed), retire. Of used,
        helped and harmed, `own` has the part on the rows that it came from; the rest is on its neighbours, which show
        whether it is knowledge or only remembers its case.
    """
    table: dict[str, dict[str, Any]] = {}

    def tallies(entry: str, row_id: str) -> list[dict[str, Any]]:
        line = table[entry]
        return [line, line["own"]] if row_id in sources.get(entry, ()) else [line]

    for answer in answers:
        for read in answer["entries"]:
            entry = _id(read["name"])
            table.setdefault(
                entry, {"entry": entry, "text": read["text"], **_NOTHING, "own": {**_NOTHING}, "cases": 0, "fixed": 0}
            )
            for tally in tallies(entry, answer["id"]):
                tally["used"] += 1
            if answer["id"] in hard and answer["id"] in sources.get(entry, ()):
                table[entry]["cases"] += 1
                table[entry]["fixed"] += bool(answer["correct"])
    for index, place, right in without:
        answer = answers[index]
        for tally in tallies(_id(answer["entries"][place]["name"]), answer["id"]):
            tally["helped"] += bool(answer["correct"]) and not right
            tally["harmed"] += right and not answer["correct"]
    for line in table.values():
        line["score"] = line["helped"] - line["harmed"]
        line["retire"] = line["score"] < retire_below and line["harmed"] > line["helped"]
    return sorted(table.values(), key=lambda line: (line["score"], -line["used"], line["entry"]))


async def retire(context: Context, lines: Sequence[Mapping[str, Any]]) -> int:
    """Retires the entries that harm. One that was retired by this run before, and put back by a person, stays.

    Args:
        context: The stage.
        lines: Of `measure`.

    Returns:
        How many of them this run has retired and are retired still.
    """
    author, knowledge = f"nesycd run {context.run_id}", context.services.knowledge
    count = 0
    for line in lines:
        if not line["retire"]:
            continue
        name = f"{context.knowledge_base}/entries/{line['entry']}"
        request = ListEntryRevisionsRequest(parent=name, page_size=_PAGE)
        try:
            revisions = (await context.services.call(knowledge.ListEntryRevisions, request, what="knowledge")).revisions
        except NotFound:  # a person took it away
            continue
        active = bool(revisions) and revisions[0].entry.status == ENTRY_STATUS_ACTIVE
        if any(revision.author == author for revision in revisions):
            count += not active
            continue
        if not active:
            continue
        reason = (
            f"of {line['used']} answers that read it, {line['harmed']} are right only without it "
            f"and {line['helped']} only with it"
        )
        gone = DeleteEntryRequest(name=name, etag=revisions[0].entry.etag, author=author, reason=reason)
        try:
            await context.services.call(knowledge.DeleteEntry, gone, what="knowledge")
            count += 1
        except (Aborted, NotFound):  # a person is at it
            continue
    return count


def sources_of(context: Context) -> dict[str, set[str]]:
    """The rows that led to each entry, by the entry's id, as the last extraction left them."""
    if "extract" not in context.inputs:
        return {}
    return {
        _id(entry["name"]): {source.get("caseId", "") for source in entry.get("sources", ())}
        for entry in context.inputs["extract"].read_jsonl("entries.jsonl")
    }


def hard_of(context: Context) -> set[str]:
    """The hard cases of the run's first diagnosis and of the later ones."""
    folders = [folder for (stage, _), folder in context.rounds.items() if stage == "diagnose"]
    return {r["id"] for folder in folders for r in folder.read_jsonl("responses.jsonl") if not r["correct"]}


def _id(name: str) -> str:
    return name.rsplit("/", 1)[-1]
