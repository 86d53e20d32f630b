"""What waits for a person, and what the person decides: review, approve, reject, merge, replace."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

import click
import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from nesycd.knowledge.v1 import (
    ENTRY_STATUS_ACTIVE,
    ENTRY_STATUS_DRAFT,
    REVIEW_DECISION_APPROVE,
    REVIEW_DECISION_MERGE,
    REVIEW_DECISION_REJECT,
    REVIEW_DECISION_REPLACE,
    Entry,
    GetEntryRequest,
    GetKnowledgeBaseStatisticsRequest,
    ListReviewsRequest,
    ResolveReviewRequest,
    ResolveReviewResponse,
    Review,
    ReviewDecision,
    UpdateEntryRequest,
)
from rich.text import Text

from cli import client
from cli.knowledge import looks, names, writing
from cli.knowledge.options import as_json, at_most, because, by_author, err, in_kb
from cli.problems import Problem, explain
from cli.watch import to_json
from services.common import errors

_DONE = {
    REVIEW_DECISION_APPROVE: "approved: it is in use",
    REVIEW_DECISION_REJECT: "rejected: it is retired",
    REVIEW_DECISION_MERGE: "merged: the other one has its sources",
    REVIEW_DECISION_REPLACE: "in use; what it replaced is superseded",
}


def reviews_of(parent: str) -> Iterator[Review]:
    """What waits, by name."""
    for page in names.pages("ListReviews", ListReviewsRequest(parent=parent, page_size=50)):
        yield from page.reviews


def decide(
    entry: Entry | str, decision: ReviewDecision, others: Sequence[str], author: str, reason: str
) -> ResolveReviewResponse:
    """Writes a decision.

    Args:
        entry: The draft as the person saw it, which is then guarded; or its name.
        decision: A ReviewDecision.
        others: Names of the entries that are merged into or replaced; none: those that it conflicts with.
        author: Who decides.
        reason: Why.
    """
    name, etag = (entry, "") if isinstance(entry, str) else (entry.name, entry.etag)
    request = ResolveReviewRequest(
        name=name,
        decision=decision,
        others=others,
        etag=etag,
        author=author,
        reason=reason,
    )
    return client.call("knowledge", "ResolveReview", request)


# --- the decisions as commands


def _tell(response: ResolveReviewResponse, decision: ReviewDecision, json_output: bool) -> None:
    if json_output:
        click.echo(to_json(response))
        return
    entry = response.entry
    err.print(Text(f"{names.short_id(entry.name)} {_DONE[decision]}."))
    for other in response.others:
        err.print(Text(f"  {names.short_id(other.name)} is {looks.status_of(other)}: {other.text}"))


def _many(
    entries: Sequence[str], base: str, decision: ReviewDecision, author: str, reason: str, json_output: bool
) -> None:
    """One decision about several entries; one that fails does not stop the others."""
    failed = 0
    for given in entries:
        try:
            response = decide(names.entry_name(given, base), decision, (), author, reason)
        except grpc.aio.AioRpcError as error:
            problem = errors.from_rpc_error(error)
            if problem.code == grpc.StatusCode.UNAVAILABLE:
                raise
            failed += 1
            err.print(Text(f"{given}: {explain(problem)}", style="red"))
        else:
            _tell(response, decision, json_output)
    if failed:
        raise Problem(f"{failed} of {len(entries)} could not be decided")


@click.command()
@click.argument("entries", metavar="ENTRY...", nargs=-1, required=True)
@in_kb
@by_author
@because
@as_json
def approve(entries: tuple[str, ...], base: str, author: str, reason: str, json_output: bool) -> None:
    """Take drafts into use; what they conflict with stays."""
    _many(entries, base, REVIEW_DECISION_APPROVE, author, reason, json_output)


@click.command()
@click.argument("entries", metavar="ENTRY...", nargs=-1, required=True)
@in_kb
@by_author
@because
@as_json
def reject(entries: tuple[str, ...], base: str, author: str, reason: str, json_output: bool) -> None:
    """Retire drafts; their revisions stay."""
    _many(entries, base, REVIEW_DECISION_REJECT, author, reason, json_output)


@click.command()
@click.argument("entry")
@click.argument("other", required=False)
@in_kb
@by_author
@because
@as_json
def merge(entry: str, other: str | None, base: str, author: str, reason: str, json_output: bool) -> None:
    """A draft says the same as OTHER, which gets its sources. Default: the one that it repeats."""
    name = names.entry_name(entry, base)
    others = [names.entry_name(other, _base_of(name))] if other else []
    _tell(decide(name, REVIEW_DECISION_MERGE, others, author, reason), REVIEW_DECISION_MERGE, json_output)


@click.command()
@click.argument("entry")
@click.argument("others", metavar="[OTHER]...", nargs=-1)
@in_kb
@by_author
@because
@as_json
def replace(entry: str, others: tuple[str, ...], base: str, author: str, reason: str, json_output: bool) -> None:
    """Take a draft into use in the place of OTHERs. Default: all that it conflicts with."""
    name = names.entry_name(entry, base)
    named = [names.entry_name(other, _base_of(name)) for other in others]
    _tell(decide(name, REVIEW_DECISION_REPLACE, named, author, reason), REVIEW_DECISION_REPLACE, json_output)


def _base_of(name: str) -> str:
    return name.partition("/entries/")[0]


# --- one by one


@click.command()
@in_kb
@click.option("--list", "only_list", is_flag=True, help="Only list what waits, also on a terminal.")
@at_most
@by_author
@click.option("--reason", default=None, help="Why; kept with every decision. Asked for once where it is not given.")
@as_json
def review(base: str, only_list: bool, limit: int, author: str, reason: str | None, json_output: bool) -> None:
    """What waits for a person, and why; on a terminal decide one by one."""
    parent = names.chosen(base)
    if json_output:
        looks.print_json(islice(reviews_of(parent), limit or None))
        return
    total = _waiting(parent)
    if not total:
        err.print("Nothing waits.")
    elif only_list or not (sys.stdin.isatty() and sys.stdout.isatty()):
        for number, item in enumerate(islice(reviews_of(parent), limit or None), start=1):
            looks.print_review(item.entry, item.conflicts, f"{number} of {total}")
        if limit and total > limit:
            err.print("There are more: --limit 0 lists all.")
    else:
        _Session(author, reason).run(parent, total)


def _waiting(parent: str) -> int:
    request = GetKnowledgeBaseStatisticsRequest(name=parent, top_count=1)
    return client.call("knowledge", "GetKnowledgeBaseStatistics", request).by_status.get("ENTRY_STATUS_DRAFT", 0)


_KEYS = {
    "a": "approve: both are right",
    "r": "reject: it is wrong",
    "m": "merge: it says the same as the other, which gets its sources",
    "l": "replace: it is right, the other is superseded",
    "e": "edit it, then approve",
    "s": "skip it for now",
    "q": "quit",
}
_PROMPT = "a)pprove r)eject m)erge into, rep(l)ace the other, e)dit then approve, s)kip, q)uit"


class _Session:
    """One person's way through the queue.

    Args:
        author: Who decides.
        reason: Why; None: not asked for yet.
    """

    def __init__(self, author: str, reason: str | None) -> None:
        self._author = author
        self._reason = reason
        self._decided = 0

    def run(self, parent: str, total: int) -> None:
        """Goes through what waits, until the end or until the person has had enough."""
        with suppress(click.Abort):  # Ctrl-C or Ctrl-D: what is decided stays
            for number, item in enumerate(reviews_of(parent), start=1):
                if not self._one(item, f"{number} of {total}"):
                    break
        left = max(0, total - self._decided)
        err.print(f"Decided: {self._decided}. Still waiting: {left}.")

    def _one(self, item: Review, heading: str) -> bool:
        """Asks about one entry until something is decided; False: the person quits."""
        entry, conflicts = item.entry, list(item.conflicts)
        looks.print_review(entry, conflicts, heading)
        while True:
            key = (
                click.prompt(_PROMPT, default="", show_default=False, prompt_suffix="? ", err=True).strip().lower()[:1]
            )
            if key == "q":
                return False
            if key == "s":
                return True
            if key not in _KEYS:
                for known, meaning in _KEYS.items():
                    err.print(f"  {known}  {meaning}")
                continue
            try:
                done = self._do(key, entry, conflicts)
            except Problem as problem:
                err.print(Text(problem.message, style="red"))
                if not isinstance(problem, writing.Overtaken):
                    continue
                done = False
            except grpc.aio.AioRpcError as error:
                failure = errors.from_rpc_error(error)
                err.print(Text(explain(failure), style="red"))
                if failure.code not in (grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION):
                    continue
                done = False
            if done:
                self._decided += 1
                return True
            entry = client.call("knowledge", "GetEntry", GetEntryRequest(name=entry.name)).entry
            if entry.status != ENTRY_STATUS_DRAFT:
                err.print(f"It is {looks.status_of(entry)} by now.")
                return True
            conflicts = writing.conflicts_of(entry)
            looks.print_review(entry, conflicts, heading)

    def _do(self, key: str, entry: Entry, conflicts: list[Entry]) -> bool:
        """Does what a key says; False: somebody changed the entry meanwhile."""
        if key == "e":
            return self._edit(entry)
        decision = {
            "a": REVIEW_DECISION_APPROVE,
            "r": REVIEW_DECISION_REJECT,
            "m": REVIEW_DECISION_MERGE,
            "l": REVIEW_DECISION_REPLACE,
        }[key]
        others = [self._ask_which(conflicts)] if key == "m" else [other.name for other in conflicts]
        if key == "l" and not others:
            raise Problem("there is no other entry to replace; approve it")
        reason = self._why()
        _tell(decide(entry, decision, others if key in "ml" else (), self._author, reason), decision, False)
        return True

    def _edit(self, entry: Entry) -> bool:
        text = click.edit(entry.text, extension=".txt")
        if text is None or not text.strip():
            raise Problem("nothing was changed")
        new = Entry(name=entry.name, etag=entry.etag, text=text.strip(), status=ENTRY_STATUS_ACTIVE)
        request = UpdateEntryRequest(
            entry=new,
            update_mask=FieldMask(paths=["text", "status"]),
            author=self._author,
            reason=self._why(),
            reviewed=True,
        )
        now = writing.update(request, entry, keep_text=True)
        err.print(Text(f"{names.short_id(now.name)} is {looks.status_of(now)}: {now.text}"))
        return True

    def _ask_which(self, conflicts: list[Entry]) -> str:
        if not conflicts:
            raise Problem("there is no other entry to merge it into")
        if len(conflicts) == 1:
            return conflicts[0].name
        which = click.prompt("Into which, by its number", type=click.IntRange(1, len(conflicts)), err=True)
        return conflicts[which - 1].name

    def _why(self) -> str:
        if self._reason is None:
            question = "Why? It is kept with every decision of now; empty: no reason"
            self._reason = click.prompt(question, default="", show_default=False, err=True).strip()
        return self._reason
