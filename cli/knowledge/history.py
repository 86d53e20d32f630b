"""What an entry was: history, diff, rollback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

import click
from nesycd.knowledge.v1 import (
    Entry,
    EntryRevision,
    GetEntryRevisionRequest,
    ListEntryRevisionsRequest,
    RollbackEntryRequest,
)
from rich.text import Text

from cli import client
from cli.knowledge import diff, looks, names
from cli.knowledge.options import as_json, at_most, because, by_author, err, in_kb, out
from cli.problems import Problem
from cli.watch import to_json

_REVISION = click.IntRange(1, 2**31 - 1)


def revision(name: str, number: int) -> EntryRevision:
    """What an entry was at a revision."""
    request = GetEntryRevisionRequest(name=f"{name}/revisions/{number}")
    return client.call("knowledge", "GetEntryRevision", request).revision


def revisions_of(name: str, page_size: int = 100) -> Iterator[EntryRevision]:
    """What an entry was, newest first."""
    for page in names.pages("ListEntryRevisions", ListEntryRevisionsRequest(parent=name, page_size=page_size)):
        yield from page.revisions


def print_revisions(name: str, limit: int) -> None:
    """The revisions of an entry, newest first, each with what it changed.

    Args:
        name: The entry's name.
        limit: At most so many; 0: all.
    """
    made = revisions_of(name, min(limit + 1, 100) if limit else 100)
    found = list(islice(made, limit + 1 if limit else None))
    for at, one in enumerate(found[:limit] if limit else found):
        before = found[at + 1].entry if at + 1 < len(found) else None
        print_revision(one, before)
    if limit and len(found) > limit:
        err.print("There are older ones: --limit 0 shows all.")


def print_revision(made: EntryRevision, before: Entry | None) -> None:
    """A revision with its author, time and reason, and what it changed."""
    head = Text.assemble(
        (f"{made.entry.revision:4}", "bold"), f"  {looks.when(made.create_time)}  {made.author or 'nobody named'}"
    )
    head.append(f": {made.reason}" if made.reason else "")
    out.print(head)
    if before is None:
        out.print(Text(f"      {looks.status_of(made.entry)}: {made.entry.text}"))
    else:
        diff.print_changes(before, made.entry, out, around=120, indent=6)


@click.command("history")
@click.argument("entry")
@in_kb
@at_most
@as_json
def history_command(entry: str, base: str, limit: int, json_output: bool) -> None:
    """What an entry was: who changed what, when and why, newest first."""
    name = names.entry_name(entry, base)
    if json_output:
        looks.print_json(islice(revisions_of(name), limit or None))
    else:
        print_revisions(name, limit)


@click.command("diff")
@click.argument("entry")
@click.argument("older", metavar="[FROM]", type=_REVISION, required=False)
@click.argument("newer", metavar="[TO]", type=_REVISION, required=False)
@in_kb
@as_json
def diff_command(entry: str, older: int | None, newer: int | None, base: str, json_output: bool) -> None:
    """What changed in an entry, word by word.

    Between revisions FROM and TO; without TO up to now; without both the last change.
    """
    now = names.get(entry, base)
    if older is None and now.revision < 2:
        raise Problem(f"{names.short_id(now.name)} has one revision only: it was never changed")
    newer = newer or now.revision
    one, other = (revision(now.name, number) for number in (older or now.revision - 1, newer))
    changes = list(diff.changes(one.entry, other.entry))
    if json_output:
        said = {"from": looks.to_dict(one), "to": looks.to_dict(other), "changes": [asdict(c) for c in changes]}
        click.echo(json.dumps(said))
        return
    for made, sign in ((one, "---"), (other, "+++")):
        reason = f": {made.reason}" if made.reason else ""
        by = f"{made.author or 'nobody named'}{reason}"
        line = f"{sign} revision {made.entry.revision}  {looks.when(made.create_time)}  {by}"
        out.print(Text(line, style="dim"))
    diff.print_changes(one.entry, other.entry, out)
    if not changes:
        err.print("They say the same.")


@click.command()
@click.argument("entry")
@click.argument("number", metavar="REVISION", type=_REVISION)
@in_kb
@by_author
@because
@as_json
def rollback(entry: str, number: int, base: str, author: str, reason: str, json_output: bool) -> None:
    """Make an earlier REVISION of an entry the current one, as a new revision."""
    before = names.get(entry, base)
    request = RollbackEntryRequest(name=before.name, revision=number, etag=before.etag, author=author, reason=reason)
    now = client.call("knowledge", "RollbackEntry", request).entry
    if json_output:
        click.echo(to_json(now))
        return
    looks.print_entry(now)
    diff.print_changes(before, now, out)
    if now.revision == before.revision:
        err.print(f"It says already what it said at revision {number}.")
