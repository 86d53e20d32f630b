"""Files of entries: import, export."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import grpc
from nesycd.knowledge.v1 import (
    EXCHANGE_FORMAT_JSONL,
    EXCHANGE_FORMAT_MARKDOWN,
    IMPORT_OUTCOME_CREATED,
    IMPORT_OUTCOME_FOR_REVIEW,
    IMPORT_OUTCOME_MERGED,
    IMPORT_OUTCOME_UPDATED,
    ExportEntriesRequest,
    ImportEntriesRequest,
    ImportEntriesResponse,
    ImportOptions,
)
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli import client
from cli.knowledge import diff, looks, names
from cli.knowledge.options import as_format, as_json, as_reviewed, because, by_author, err, in_kb, out, with_filter
from cli.problems import Problem
from cli.watch import to_json

_PIECE = 256 * 1024  # bytes
_BIG = 1024 * 1024  # bytes from which an import shows how far it is
_PATIENCE = 3600  # seconds
_COUNTS = ("created", "updated", "merged", "unchanged")
_OUTCOMES = {
    IMPORT_OUTCOME_CREATED: ("new", "green"),
    IMPORT_OUTCOME_UPDATED: ("changed", "cyan"),
    IMPORT_OUTCOME_MERGED: ("another source", "dim"),
    IMPORT_OUTCOME_FOR_REVIEW: ("waits for a person", "yellow"),
}


def exchange_format(path: str, wanted: str | None) -> int:
    """The format that was named, else the one that the file's ending tells."""
    if wanted == "markdown" or (wanted is None and Path(path).suffix.lower() in (".md", ".markdown")):
        return EXCHANGE_FORMAT_MARKDOWN
    return EXCHANGE_FORMAT_JSONL


@contextmanager
def _progress(what: str, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """How many bytes went through, on standard error where that is a terminal."""
    if not (shown and err.is_terminal):
        yield lambda count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


# --- import


@click.command("import")
@click.argument("file", type=click.File("rb"))
@in_kb
@as_format
@click.option("--atomic", is_flag=True, help="All entries or none.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen to each entry.")
@click.option("--changes", "list_changes", is_flag=True, help="Say what happened to each entry.")
@as_reviewed
@by_author
@because
@as_json
def import_command(
    file: Any,
    base: str,
    wanted: str | None,
    atomic: bool,
    dry_run: bool,
    list_changes: bool,
    reviewed: bool,
    author: str,
    reason: str,
    json_output: bool,
) -> None:
    """Read entries from FILE (JSON lines, or Markdown; "-": standard input)."""
    path = getattr(file, "name", "-")
    options = ImportOptions(
        parent=names.chosen(base),
        format=exchange_format(path, wanted),  # type: ignore[arg-type]
        atomic=atomic,
        dry_run=dry_run,
        author=author,
        reason=reason,
        reviewed=reviewed,
        list_changes=list_changes,
    )
    size = _size(file)

    async def stream(advance: Callable[[int], None]) -> AsyncIterator[ImportEntriesRequest]:
        yield ImportEntriesRequest(options=options)
        while piece := file.read(_PIECE):
            advance(len(piece))
            yield ImportEntriesRequest(data=piece)

    async def send() -> ImportEntriesResponse:
        with _progress("Importing", size, size is None or size >= _BIG) as advance:
            async with client.stub("knowledge") as stub:
                return await stub.ImportEntries(stream(advance), timeout=_PATIENCE)

    try:
        done = client.run(send())
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) and not dry_run:
            err.print("Part of the file may be in. Import it again: what is there already is not made twice.")
        raise
    if json_output:
        click.echo(to_json(done))
    else:
        _print_import(done, path, dry_run)
    if done.problems:
        sys.exit(1)


def _size(file: Any) -> int | None:
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_size if status.st_size else None


def _print_import(done: ImportEntriesResponse, file: str, dry_run: bool) -> None:
    for change in done.changes:
        label, style = _OUTCOMES.get(change.outcome, ("", ""))
        head = Text.assemble(
            (f"{file}:{change.line}: ", "dim"), (label, style), (f"  {names.short_id(change.entry.name)}", "dim")
        )
        out.print(head, soft_wrap=True)
        if change.HasField("before"):
            diff.print_changes(change.before, change.entry, out, around=40, indent=4)
        else:
            out.print(Text(f"    {change.entry.text}"))
        if change.outcome == IMPORT_OUTCOME_FOR_REVIEW:
            others = ", ".join(names.short_id(name) for name in change.entry.conflicting_entries)
            out.print(Text(f"    {looks.why_it_waits(change.entry)}" + (f" ({others})" if others else ""), "yellow"))
    if done.changes_left_out:
        out.print(f"and {done.changes_left_out} more that are not listed")
    verb = "would be" if dry_run else "were"
    said = [f"{getattr(done, count)} {count}" for count in _COUNTS if getattr(done, count)]
    out.print(f"Entries that {verb}: {', '.join(said) or 'none'}.")
    if done.for_review:
        waiting = f"Of these {'would wait' if dry_run else 'wait'} for a person: {done.for_review}"
        out.print(Text(waiting + ("." if dry_run else "; see `nesycd kb review`."), style="yellow"))
    for problem in done.problems:
        out.print(Text(f"{file}:{problem.line}: {problem.error.message}", style="red"), soft_wrap=True)
    if done.problems:
        out.print(Text(f"Refused: {len(done.problems)}.", style="red"))


# --- export


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@in_kb
@as_format
@with_filter
def export(file: str, base: str, wanted: str | None, expression: str) -> None:
    """Write entries of any status to FILE ("-": standard output)."""
    request = ExportEntriesRequest(
        parent=names.chosen(base),
        format=exchange_format(file, wanted),  # type: ignore[arg-type]
        filter=expression,
    )

    async def receive(target: Any, shown: bool) -> None:
        with _progress("Exporting", None, shown) as advance:
            async with client.stub("knowledge") as stub:
                async for piece in stub.ExportEntries(request, timeout=_PATIENCE):
                    target.write(piece.data)
                    advance(len(piece.data))

    if file == "-":
        client.run(receive(sys.stdout.buffer, shown=False))
    else:
        with written(file) as target:
            client.run(receive(target, shown=True))


@contextmanager
def written(file: str) -> Iterator[Any]:
    """A file that is there whole, or as it was before.

    Args:
        file: Its path; a link is followed.

    Raises:
        Problem: It cannot be written.
    """
    path = Path(file).resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as target:
            yield target
        return
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        aside.replace(path)
    except OSError as error:
        raise Problem(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
