"""Changing entries: add, edit, retire, feedback. What was typed is never lost."""

from __future__ import annotations

import sys
import tempfile
import uuid
from pathlib import Path

import click
import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_status import rpc_status
from nesycd.knowledge.v1 import (
    ENTRY_STATUS_DRAFT,
    ENTRY_STATUS_SUPERSEDED,
    CreateEntryRequest,
    DeleteEntryRequest,
    EditConflict,
    Entry,
    GetEntryRequest,
    RecordFeedbackRequest,
    UpdateEntryRequest,
)
from rich.text import Text

from cli import client
from cli.knowledge import diff, history, looks, names
from cli.knowledge.options import as_json, as_reviewed, because, by_author, err, in_kb, out
from cli.problems import Problem
from cli.watch import to_json

_KINDS = click.Choice(["fact", "summary", "case"])
_SHOWN_CONFLICTS = 5
_tagged = click.option("--tag", "tags", multiple=True, help="Add a tag. Repeatable.")
_cited = click.option("--citation", default="", help="Where the fact can be looked up.")
_from_file = click.option(
    "--text-file", type=click.Path(dir_okay=False, allow_dash=True), help='The text is in a file; "-": stdin.'
)


class Overtaken(Problem):
    """Somebody else changed the entry after the person had read it."""


# --- what a write gave back


def tell(entry: Entry, base: str, *, json_output: bool) -> None:
    """What a written entry became; where it waits for a person, why and what can be done."""
    if json_output:
        click.echo(to_json(entry))
    else:
        looks.print_entry(entry)
    if entry.status == ENTRY_STATUS_DRAFT:
        looks.tell_waiting(entry, conflicts_of(entry), base, err)


def conflicts_of(entry: Entry) -> list[Entry]:
    """The first few entries that a draft repeats or contradicts, as they are now."""
    requests = (GetEntryRequest(name=name) for name in entry.conflicting_entries[:_SHOWN_CONFLICTS])
    return [client.call("knowledge", "GetEntry", request).entry for request in requests]


def conflict_in(error: grpc.aio.AioRpcError) -> EditConflict | None:
    """Both versions, where an edit failed because somebody else edited the same revision."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:
        return None
    for detail in status.details if status else ():
        if detail.Is(EditConflict.DESCRIPTOR):
            conflict = EditConflict()
            detail.Unpack(conflict)
            return conflict
    return None


def keep(text: str, what: str) -> Path:
    """Writes a text that could not be saved elsewhere into a new file, here or among the temporary files."""
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        for number in range(1, 1000):
            path = folder / (f"kb-{what}.txt" if number == 1 else f"kb-{what}-{number}.txt")
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(text + "\n")
                return path
            except FileExistsError:
                continue
            except OSError:
                break
    out.print(text, markup=False, highlight=False)
    raise Problem("what you typed is above: it could be written to no file either")


def _typed(before: str) -> str:
    """What the user's editor leaves.

    Raises:
        Problem: Nothing was changed.
    """
    text = click.edit(before, extension=".txt")
    if text is None or text.strip() == before.strip():
        raise Problem("nothing was changed")
    return text.strip()


def _read(path: str) -> str:
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise Problem(f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at {error.start}") from error


# --- add


@click.command()
@click.argument("text", required=False)
@in_kb
@click.option("--kind", type=_KINDS, default="fact", show_default=True)
@click.option("--title", default="", help="A line for people.")
@_tagged
@_cited
@click.option("--index-text", default="", help="What the search reads instead of the text.")
@_from_file
@as_reviewed
@by_author
@because
@as_json
def add(
    text: str | None,
    base: str,
    kind: str,
    title: str,
    tags: tuple[str, ...],
    citation: str,
    index_text: str,
    text_file: str | None,
    reviewed: bool,
    author: str,
    reason: str,
    json_output: bool,
) -> None:
    """Add an entry; without TEXT your editor opens."""
    parent = names.chosen(base)
    given = _read(text_file) if text_file is not None else text
    typed = _typed("") if given is None else given
    entry = Entry(kind=f"ENTRY_KIND_{kind.upper()}", text=typed, title=title, tags=tags, index_text=index_text)
    entry.sources.add(author=author, citation=citation)
    request = CreateEntryRequest(
        parent=parent, entry=entry, author=author, reason=reason, merge=True, reviewed=reviewed
    )
    try:
        response = client.call("knowledge", "CreateEntry", request)
    except grpc.aio.AioRpcError:
        if given is None:
            err.print(f"Your text is kept in {keep(typed, 'add')}; take it with --text-file.", soft_wrap=True)
        raise
    tell(response.entry, base, json_output=json_output)
    if response.merged:
        err.print("It was there already; it has your source now.")


# --- edit


@click.command()
@click.argument("entry")
@in_kb
@click.option("--text", help="The new text; without any option your editor opens.")
@_from_file
@click.option("--title", help='A line for people; "": none.')
@click.option("--index-text", help='What the search reads instead of the text; "": the text.')
@click.option("--kind", type=_KINDS)
@_tagged
@click.option("--untag", "untags", multiple=True, help="Take a tag away. Repeatable.")
@_cited
@click.option("--status", type=click.Choice(["draft", "active", "superseded", "retired"]))
@click.option("--superseded-by", metavar="ENTRY", help="Another entry took its place.")
@click.option("--etag", help="Only if the entry is still the one with this etag; see `nesycd kb show --json`.")
@as_reviewed
@by_author
@because
@as_json
def edit(
    entry: str,
    base: str,
    text: str | None,
    text_file: str | None,
    title: str | None,
    index_text: str | None,
    kind: str | None,
    tags: tuple[str, ...],
    untags: tuple[str, ...],
    citation: str,
    status: str | None,
    superseded_by: str | None,
    etag: str | None,
    reviewed: bool,
    author: str,
    reason: str,
    json_output: bool,
) -> None:
    """Change an entry; the next answer reads the new text."""
    found = names.get(entry, base)
    new = Entry(name=found.name, etag=etag or found.etag, tags=found.tags, sources=found.sources)
    paths = []
    for path, value in (("title", title), ("index_text", index_text)):
        if value is not None:
            setattr(new, path, value)
            paths.append(path)
    if kind is not None:
        new.MergeFrom(Entry(kind=f"ENTRY_KIND_{kind.upper()}"))
        paths.append("kind")
    if tags or untags:
        _retag(new, tags, untags)
        paths.append("tags")
    if citation:
        new.sources.add(author=author, citation=citation)
        paths.append("sources")
    if superseded_by is not None:
        new.superseded_by = names.entry_name(superseded_by, found.name.partition("/entries/")[0])
        new.status = ENTRY_STATUS_SUPERSEDED
        paths += ["superseded_by", "status"]
    elif status is not None:
        new.MergeFrom(Entry(status=f"ENTRY_STATUS_{status.upper()}"))
        paths.append("status")
    in_editor = text is None and text_file is None and not paths
    if in_editor or text is not None or text_file is not None:
        new.text = (
            _typed(found.text) if in_editor else (_read(text_file) if text_file is not None else text or "").strip()
        )
        paths.append("text")
    request = UpdateEntryRequest(
        entry=new, update_mask=FieldMask(paths=paths), author=author, reason=reason, reviewed=reviewed
    )
    now = update(request, found, keep_text=in_editor, json_output=json_output)
    tell(now, base, json_output=json_output)
    if not json_output:
        diff.print_changes(found, now, out)
    if now.revision == found.revision:
        err.print("It said that already.")


def _retag(entry: Entry, more: tuple[str, ...], fewer: tuple[str, ...]) -> None:
    if missing := set(fewer) - set(entry.tags):
        raise Problem(f"it has no tag {', '.join(sorted(missing))}; its tags: {', '.join(entry.tags) or 'none'}")
    tags = [tag for tag in dict.fromkeys([*entry.tags, *more]) if tag not in fewer]
    del entry.tags[:]
    entry.tags.extend(tags)


def update(request: UpdateEntryRequest, read: Entry, *, keep_text: bool, json_output: bool = False) -> Entry:
    """Writes an edit; where it fails, shows what met it, and keeps what was typed.

    Args:
        request: The edit.
        read: The entry as it was when the person began.
        keep_text: The text was typed into an editor and is nowhere else.
        json_output: Print what met it as JSON.

    Raises:
        Overtaken: Somebody else edited it meanwhile.
        grpc.aio.AioRpcError: It failed for another reason.
    """
    try:
        return client.call("knowledge", "UpdateEntry", request).entry
    except grpc.aio.AioRpcError as error:
        kept = keep(request.entry.text, f"edit-{names.short_id(read.name)}") if keep_text else None
        if kept is not None:
            err.print(f"Your text is kept in {kept}", soft_wrap=True, markup=False)
        conflict = conflict_in(error)
        if conflict is None:
            raise
        if json_output:
            click.echo(to_json(conflict))
        else:
            _print_conflict(conflict, request.entry, set(request.update_mask.paths))
        again = f"`nesycd kb edit {names.short_id(read.name)}{f' --text-file {kept}' if kept else ''}`"
        raise Overtaken(
            f"nothing was written: the entry is at revision {conflict.current.entry.revision} by now. "
            f"Bring both together, then {again}{'' if kept else ' with the same options'}"
        ) from error


def _print_conflict(conflict: EditConflict, mine: Entry, paths: set[str]) -> None:
    """What the other person changed and what this one wanted to, since the revision that both had read."""
    # The detail may hold shortened texts.
    name = conflict.current.entry.name
    current = history.revision(name, conflict.current.entry.revision)
    err.print(
        Text.assemble(
            ("Somebody else changed it meanwhile: ", "bold"),
            f"revision {current.entry.revision}, {looks.when(current.create_time)}, ",
            f"{current.author or 'nobody named'}{': ' + current.reason if current.reason else ''}",
        )
    )
    if not conflict.HasField("read"):
        err.print(Text(f"  it says now: {current.entry.text}"))
        return
    read = history.revision(name, conflict.read.entry.revision).entry
    diff.print_changes(read, current.entry, err, indent=2)
    wanted = Entry()
    wanted.CopyFrom(read)
    for path in paths:
        wanted.ClearField(path)  # type: ignore[arg-type]
    shown = Entry()
    FieldMask(paths=sorted(paths)).MergeMessage(mine, shown)
    wanted.MergeFrom(shown)
    err.print(Text(f"You wanted, from revision {read.revision}:", style="bold"))
    diff.print_changes(read, wanted, err, indent=2)


# --- retire, feedback


@click.command()
@click.argument("entry")
@in_kb
@click.option("--superseded-by", metavar="ENTRY", help="Another entry takes its place.")
@by_author
@because
@as_json
def retire(entry: str, base: str, superseded_by: str | None, author: str, reason: str, json_output: bool) -> None:
    """Take an entry out of use; its revisions stay."""
    name = names.entry_name(entry, base)
    if superseded_by is None:
        request = DeleteEntryRequest(name=name, author=author, reason=reason)
        now = client.call("knowledge", "DeleteEntry", request).entry
    else:
        other = names.entry_name(superseded_by, name.partition("/entries/")[0])
        new = Entry(name=name, status=ENTRY_STATUS_SUPERSEDED, superseded_by=other)
        mask = FieldMask(paths=["status", "superseded_by"])
        change = UpdateEntryRequest(entry=new, update_mask=mask, author=author, reason=reason)
        now = client.call("knowledge", "UpdateEntry", change).entry
    if json_output:
        click.echo(to_json(now))
    else:
        err.print(
            f"It is {looks.status_of(now)} now; `nesycd kb edit {names.short_id(name)} --status active` undoes it."
        )


@click.command()
@click.argument("entry")
@in_kb
@click.option("--helpful", is_flag=True, help="It put an answer right.")
@click.option("--harmful", is_flag=True, help="It put an answer wrong.")
@as_json
def feedback(entry: str, base: str, helpful: bool, harmful: bool, json_output: bool) -> None:
    """Say that an entry helped or harmed an answer; searches can weigh it."""
    if helpful == harmful:
        raise click.UsageError("say either --helpful or --harmful")
    name = names.entry_name(entry, base)
    request = RecordFeedbackRequest(parent=name.partition("/entries/")[0], request_id=str(uuid.uuid4()))
    request.feedback.add(entry=name, helpful=int(helpful), harmful=int(harmful))
    client.call("knowledge", "RecordFeedback", request)
    now = client.call("knowledge", "GetEntry", GetEntryRequest(name=name)).entry
    if json_output:
        click.echo(to_json(now))
    else:
        err.print(f"It helped {now.counters.helpful} and harmed {now.counters.harmful} times.")
