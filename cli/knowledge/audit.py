"""What was changed in a whole knowledge base, and what is being changed: audit, watch."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from nesycd.knowledge.v1 import (
    Entry,
    EntryRevision,
    ExportAuditRequest,
    GetEntryRevisionRequest,
    WatchEntriesRequest,
    WatchEntriesResponse,
)
from rich.table import Table
from rich.text import Text

from cli import client
from cli.knowledge import diff, looks, names
from cli.knowledge.files import written
from cli.knowledge.history import revisions_of
from cli.knowledge.options import as_json, err, in_kb, out
from cli.watch import to_json

_PATIENCE = 3600  # seconds
_PAUSE = 1.0  # seconds before a watch that was cut off is taken up again
_AGO = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Since(click.ParamType):
    """A time as people give it: `2026-01-31`, `2026-01-31T12:00`, or how long ago: `90m`, `12h`, `7d`, `2w`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time with its zone; a time without one is the clock's on the wall."""
        if isinstance(value, datetime):
            return value
        try:
            if ago := _AGO.fullmatch(value.strip()):
                return datetime.now(UTC) - timedelta(**{_UNITS[ago.group(2)]: int(ago.group(1))})
            return datetime.fromisoformat(value.strip()).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a date (2026-01-31) nor how long ago (7d, 12h, 30m)", param, ctx)


# --- audit


async def _all(parent: str, since: datetime | None) -> AsyncIterator[EntryRevision]:
    request = ExportAuditRequest(parent=parent)
    if since is not None:
        request.since.FromDatetime(since)
    async with client.stub("knowledge") as stub:
        async for piece in stub.ExportAudit(request, timeout=_PATIENCE):
            for revision in piece.revisions:
                yield revision


async def _of_one(name: str, since: datetime | None) -> AsyncIterator[EntryRevision]:
    begin = Timestamp()
    begin.FromDatetime(since or datetime(1970, 1, 1, tzinfo=UTC))
    found = [
        r for r in await asyncio.to_thread(lambda: list(revisions_of(name))) if _nanos(r.create_time) >= _nanos(begin)
    ]
    for revision in reversed(found):
        yield revision


def _nanos(time: Timestamp) -> int:
    return time.seconds * 10**9 + time.nanos


@click.command()
@in_kb
@click.option("--since", type=Since(), help="Only changes since 2026-01-31, or of the last 7d, 12h, 30m.")
@click.option("--entry", help="Only this entry's.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write JSON lines to a file.")
@as_json
def audit(base: str, since: datetime | None, entry: str | None, output: str | None, json_output: bool) -> None:
    """Who changed what, when and why, in order of time.

    With -o or --json one EntryRevision a line, each with the whole entry: by entry, then by revision.
    """
    made = _of_one(names.entry_name(entry, base), since) if entry else _all(names.chosen(base), since)

    async def write(put: Any) -> int:
        count = 0
        async for revision in made:
            put(to_json(revision) + "\n")
            count += 1
        return count

    if output:
        with written(output) as target:
            count = client.run(write(lambda line: target.write(line.encode())))
        err.print(f"{count} revisions are in {output}", soft_wrap=True, markup=False)
    elif json_output:
        client.run(write(lambda line: click.echo(line, nl=False)))
    else:
        _print_audit(client.run(_rows(made)))


async def _rows(made: AsyncIterator[EntryRevision]) -> list[tuple[Timestamp, str, str, str, str, str]]:
    """Time, entry, revision, author, reason and what changed; not the revisions themselves, which may be many."""
    rows = []
    before: Entry | None = None
    async for revision in made:
        entry = revision.entry
        if before is None or before.name != entry.name:
            before = None
        rows.append(
            (
                revision.create_time,
                names.short_id(entry.name),
                str(entry.revision),
                revision.author,
                revision.reason,
                _summary(before, entry),
            )
        )
        before = entry
    rows.sort(key=lambda row: _nanos(row[0]))
    return rows


def _summary(before: Entry | None, after: Entry) -> str:
    text = after.text if len(after.text) <= 200 else after.text[:199] + "…"
    if before is None:
        return f"{'new' if after.revision == 1 else looks.status_of(after)}: {text}"
    fields = [change.field.replace("_", " ") for change in diff.changes(before, after)]
    status = f" ({looks.status_of(after)})" if "status" in fields else ""
    return f"{', '.join(fields) or 'nothing'}{status}: {text}"


def _print_audit(rows: list[tuple[Timestamp, str, str, str, str, str]]) -> None:
    if not rows:
        err.print("Nothing was changed.")
        return
    if out.width < looks.WIDE:
        for time, entry, number, author, reason, what in rows:
            out.print(Text(f"{looks.when(time)}  {entry} r{number}  {author}{': ' + reason if reason else ''}"))
            out.print(Text(f"  {what}", style="dim"))
        return
    table = Table(box=None, pad_edge=False)
    for heading, options in (
        ("time", {"no_wrap": True}),
        ("entry", {"no_wrap": True, "style": "dim"}),
        ("rev", {"justify": "right", "no_wrap": True}),
        ("author", {"max_width": 16}),
        ("reason", {"ratio": 1}),
        ("what", {"ratio": 2, "overflow": "fold"}),
    ):
        table.add_column(heading, **options)  # type: ignore[arg-type]
    for time, *cells in rows:
        table.add_row(looks.when(time), *(Text(cell) for cell in cells))
    out.print(table)


# --- watch


@click.command("watch")
@in_kb
@click.option("--token", default="", help="Go on after this token of an earlier watch (--json prints them).")
@as_json
def watch_command(base: str, token: str, json_output: bool) -> None:
    """Print changes as they come; Ctrl-C ends it. A service that is restarted is waited for."""
    parent = names.chosen(base)
    err.print(f"Watching {parent}; Ctrl-C ends it.")
    try:
        client.run(_watch(parent, token, json_output))
    except KeyboardInterrupt:
        return


async def _watch(parent: str, token: str, json_output: bool) -> None:
    away = False
    seen: dict[str, Entry] = {}
    while True:
        try:
            async with client.stub("knowledge") as stub:
                async for change in stub.WatchEntries(WatchEntriesRequest(parent=parent, watch_token=token)):
                    away, token = False, change.watch_token
                    if json_output:
                        click.echo(to_json(change))
                    else:
                        await _print_change(stub, change, seen)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
        if not away:
            away = True
            missed = "" if token else " Changes made meanwhile are not shown: none was seen yet to go on from."
            err.print(f"The service is away; it is waited for.{missed}")
        await asyncio.sleep(_PAUSE)


async def _print_change(stub: Any, change: WatchEntriesResponse, seen: dict[str, Entry]) -> None:
    entry = change.entry
    before = seen.get(entry.name)
    seen[entry.name] = entry
    if before is not None and before.revision == entry.revision:
        counters = entry.counters
        said = f"used {counters.used}, helped {counters.helpful}, harmed {counters.harmful}"
        out.print(Text(f"{names.short_id(entry.name)}  {said}", style="dim"))
        return
    made = await _revision(stub, entry.name, entry.revision)
    if before is None and entry.revision > 1:
        older = await _revision(stub, entry.name, entry.revision - 1)
        before = older.entry if older else None
    who = f"{made.author or 'nobody named'}{': ' + made.reason if made.reason else ''}" if made else ""
    out.print(
        Text.assemble(
            (names.short_id(entry.name), "bold"), f"  {looks.when(entry.update_time)}  r{entry.revision}  {who}"
        )
    )
    if before is None:
        out.print(Text(f"  {looks.status_of(entry)}: {entry.text}"))
    else:
        diff.print_changes(before, entry, out, around=120, indent=2)


async def _revision(stub: Any, name: str, number: int) -> EntryRevision | None:
    """A revision, where it can be told: a change is shown even if its base was removed since."""
    try:
        request = GetEntryRevisionRequest(name=f"{name}/revisions/{number}")
        return (await stub.GetEntryRevision(request, timeout=10)).revision
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED):
            return None
        raise
