"""`nesycd kb`: search, read, correct and exchange what the student reads."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from nesycd.knowledge.v1 import (
    EXCHANGE_FORMAT_JSONL,
    EXCHANGE_FORMAT_MARKDOWN,
    CreateEntryRequest,
    CreateKnowledgeBaseRequest,
    DeleteEntryRequest,
    Entry,
    EntryKind,
    EntryStatus,
    ExportEntriesRequest,
    GetEntryRequest,
    ImportEntriesRequest,
    ImportEntriesResponse,
    ImportOptions,
    KnowledgeBase,
    ListEntryRevisionsRequest,
    ListKnowledgeBasesRequest,
    RollbackEntryRequest,
    SearchEntriesRequest,
    SearchMode,
    UpdateEntryRequest,
)
from nesycd.student.v1 import ListAdaptersRequest
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import client
from cli.problems import Group, Problem
from cli.watch import to_json

out = Console()
err = Console(stderr=True)
as_json = click.option("--json", "json_output", is_flag=True, help="Print JSON for a script.")
in_kb = click.option(
    "--kb", "base", default="", help="Which knowledge base. Default: the one that the served student reads."
)


def user() -> str:
    """The user's name; the number where the machine knows no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


by_author = click.option("--author", default=user, help="Who changes it. Default: your user name.")
because = click.option("--reason", default="", help="Why.")


@click.group(cls=Group)
def kb() -> None:
    """Search, read and correct what the student reads."""


def kb_name(name: str) -> str:
    """`knowledgeBases/{kb}` for an id or a name."""
    return name if name.startswith("knowledgeBases/") else f"knowledgeBases/{name}"


def chosen(base: str) -> str:
    """The knowledge base that was named, else the one of the alias `production`, else the only one.

    Raises:
        Problem: None can be told.
    """
    if base:
        return kb_name(base)
    aliases = client.call("student", "ListAdapters", ListAdaptersRequest()).aliases
    for alias in aliases:
        if alias.name == "aliases/production" and alias.retrieval.knowledge_base:
            return alias.retrieval.knowledge_base
    bases = client.call("knowledge", "ListKnowledgeBases", ListKnowledgeBasesRequest(page_size=2)).knowledge_bases
    if len(bases) == 1:
        return bases[0].name
    raise Problem("which knowledge base? Name it with --kb; `nesycd kb list` shows them")


def entry_name(name: str, base: str) -> str:
    """The full name of an entry given by its name or its id."""
    return name if "/" in name else f"{chosen(base)}/entries/{name}"


def short(value: int, enum: Any, prefix: str) -> str:
    """ENTRY_STATUS_ACTIVE as "active"."""
    return enum.Name(value).removeprefix(prefix).lower()


def print_entry(entry: Entry) -> None:
    """An entry for a person."""
    out.print(entry.text, style="bold", markup=False)
    out.print(entry.name, style="dim", soft_wrap=True)
    status = short(entry.status, EntryStatus, "ENTRY_STATUS_")
    kind = short(entry.kind, EntryKind, "ENTRY_KIND_")
    counters = entry.counters
    out.print(
        f"{kind}, {status}, revision {entry.revision} · used {counters.used}, helped {counters.helpful}, "
        f"harmed {counters.harmful}" + (f" · tags: {', '.join(entry.tags)}" if entry.tags else ""),
        markup=False,
    )
    if entry.review_reason:
        out.print(f"waits for a person: {entry.review_reason}", style="yellow", markup=False)
    for source in entry.sources[:10]:
        said = ", ".join(filter(None, [source.case_id, source.author, source.citation, source.run]))
        out.print(f"  from {said}", style="dim", markup=False)
    if len(entry.sources) > 10:
        out.print(f"  and {len(entry.sources) - 10} more sources", style="dim")


@kb.command("list")
@as_json
def list_bases(json_output: bool) -> None:
    """The knowledge bases."""
    bases = client.call("knowledge", "ListKnowledgeBases", ListKnowledgeBasesRequest(page_size=1000)).knowledge_bases
    if json_output:
        click.echo(json.dumps([json_format.MessageToDict(b, preserving_proto_field_name=True) for b in bases]))
        return
    table = Table("knowledge base", "title", "entries", "active", "embedder")
    for base in bases:
        table.add_row(
            base.name, escape(base.title), str(base.entry_count), str(base.active_entry_count), base.embedder or "-"
        )
    out.print(table)


@kb.command()
@click.argument("base_id")
@click.option("--title", default="")
def create(base_id: str, title: str) -> None:
    """Make a knowledge base."""
    request = CreateKnowledgeBaseRequest(knowledge_base_id=base_id, knowledge_base=KnowledgeBase(title=title))
    click.echo(client.call("knowledge", "CreateKnowledgeBase", request).knowledge_base.name)


@kb.command()
@click.argument("query")
@in_kb
@click.option("--top-k", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--mode", type=click.Choice(["bm25", "vector", "hybrid"]), help="Default: the knowledge base's.")
@click.option("--filter", "expression", default="", help='For instance "status = DRAFT AND tags:animals".')
@click.option("--explain", is_flag=True, help="Say how the scores came about.")
@as_json
def search(
    query: str, base: str, top_k: int, mode: str | None, expression: str, explain: bool, json_output: bool
) -> None:
    """The entries that fit QUERY best."""
    wanted = SearchMode.Value(f"SEARCH_MODE_{mode.upper()}") if mode else SearchMode.Value("SEARCH_MODE_UNSPECIFIED")
    request = SearchEntriesRequest(
        parent=chosen(base), query=query, top_k=top_k, mode=wanted, filter=expression, explain=explain
    )
    response = client.call("knowledge", "SearchEntries", request)
    if json_output:
        click.echo(to_json(response))
        return
    for result in response.results:
        out.print(f"{result.score:7.3f}  {result.entry.text}", markup=False, highlight=False)
        out.print(f"         {result.entry.name}", style="dim", soft_wrap=True)
        if result.explanation:
            out.print(f"         {result.explanation}", style="dim", markup=False)
    if not response.results:
        err.print("Nothing was found.")


@kb.command()
@click.argument("entry")
@in_kb
@click.option("--revisions", is_flag=True, help="Also what it was before.")
@as_json
def show(entry: str, base: str, revisions: bool, json_output: bool) -> None:
    """One entry, by its name or id."""
    name = entry_name(entry, base)
    found = client.call("knowledge", "GetEntry", GetEntryRequest(name=name)).entry
    if json_output:
        click.echo(to_json(found))
    else:
        print_entry(found)
    if revisions:
        request = ListEntryRevisionsRequest(parent=name, page_size=100)
        for revision in client.call("knowledge", "ListEntryRevisions", request).revisions:
            when = revision.create_time.ToDatetime().isoformat(" ", "seconds")
            out.print(f"{revision.entry.revision:4}  {when}  {revision.author}: {revision.reason}", markup=False)
            out.print(f"      {revision.entry.text}", style="dim", markup=False)


@kb.command()
@click.argument("text")
@in_kb
@click.option("--tag", "tags", multiple=True)
@click.option("--citation", default="", help="Where the fact can be looked up.")
@by_author
@because
def add(text: str, base: str, tags: tuple[str, ...], citation: str, author: str, reason: str) -> None:
    """Add a fact."""
    entry = Entry(kind=EntryKind.Value("ENTRY_KIND_FACT"), text=text, tags=tags)
    entry.sources.add(author=author, citation=citation)
    request = CreateEntryRequest(parent=chosen(base), entry=entry, author=author, reason=reason, merge=True)
    print_entry(client.call("knowledge", "CreateEntry", request).entry)


@kb.command()
@click.argument("entry")
@in_kb
@click.option("--text", help="The new text; without it your editor opens.")
@click.option("--status", type=click.Choice(["draft", "active", "retired"]))
@by_author
@because
@as_json
def edit(
    entry: str, base: str, text: str | None, status: str | None, author: str, reason: str, json_output: bool
) -> None:
    """Change an entry; the next answer reads the new text."""
    found = client.call("knowledge", "GetEntry", GetEntryRequest(name=entry_name(entry, base))).entry
    if text is None and status is None:
        text = click.edit(found.text)
        if text is None:
            raise Problem("nothing was changed")
    changed = Entry(name=found.name, etag=found.etag)
    paths = []
    if text is not None:
        changed.text = text.strip()
        paths.append("text")
    if status is not None:
        changed.status = EntryStatus.Value(f"ENTRY_STATUS_{status.upper()}")
        paths.append("status")
    request = UpdateEntryRequest(entry=changed, update_mask=FieldMask(paths=paths), author=author, reason=reason)
    now = client.call("knowledge", "UpdateEntry", request).entry
    if json_output:
        click.echo(to_json(now))
    else:
        print_entry(now)


@kb.command()
@click.argument("entry")
@in_kb
@by_author
@because
def retire(entry: str, base: str, author: str, reason: str) -> None:
    """Take an entry out of use; its revisions stay."""
    request = DeleteEntryRequest(name=entry_name(entry, base), author=author, reason=reason)
    client.call("knowledge", "DeleteEntry", request)
    err.print("Retired.")


@kb.command()
@click.argument("entry")
@click.argument("revision", type=click.IntRange(1, 2**31 - 1))
@in_kb
@by_author
@because
def rollback(entry: str, revision: int, base: str, author: str, reason: str) -> None:
    """Make an earlier REVISION of an entry the current one."""
    request = RollbackEntryRequest(name=entry_name(entry, base), revision=revision, author=author, reason=reason)
    print_entry(client.call("knowledge", "RollbackEntry", request).entry)


def exchange_format(path: str, wanted: str | None) -> int:
    """The format that was named, else the one that the file's ending tells."""
    if wanted == "markdown" or (wanted is None and Path(path).suffix in (".md", ".markdown")):
        return EXCHANGE_FORMAT_MARKDOWN
    return EXCHANGE_FORMAT_JSONL


as_format = click.option(
    "--format", "wanted", type=click.Choice(["jsonl", "markdown"]), help="Default: by the file's ending."
)


async def import_stream(data: Any, options: ImportOptions) -> AsyncIterator[ImportEntriesRequest]:
    """The messages of an import: the options, then the file in pieces."""
    yield ImportEntriesRequest(options=options)
    while piece := data.read(256 * 1024):
        yield ImportEntriesRequest(data=piece)


@kb.command("import")
@click.argument("file", type=click.File("rb"))
@in_kb
@as_format
@click.option("--atomic", is_flag=True, help="All entries or none.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@by_author
@because
@as_json
def import_command(
    file: Any, base: str, wanted: str | None, atomic: bool, dry_run: bool, author: str, reason: str, json_output: bool
) -> None:
    """Read entries from FILE (JSON lines, or Markdown)."""
    options = ImportOptions(
        parent=chosen(base),
        format=exchange_format(file.name, wanted),
        atomic=atomic,
        dry_run=dry_run,
        author=author,
        reason=reason,
    )

    async def send() -> ImportEntriesResponse:
        async with client.stub("knowledge") as stub:
            return await stub.ImportEntries(import_stream(file, options), timeout=3600)

    done = client.run(send())
    if json_output:
        click.echo(to_json(done))
    else:
        verb = "would be" if dry_run else "were"
        counts = ("created", "updated", "merged", "unchanged", "for_review")
        said = [f"{getattr(done, c)} {c.replace('_', ' ')}" for c in counts if getattr(done, c)]
        out.print(f"Entries that {verb}: {', '.join(said) or 'none'}.")
        for problem in done.problems:
            out.print(f"  {file.name}:{problem.line}: {problem.error.message}", style="red", markup=False)
    if done.problems:
        sys.exit(1)


@kb.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@in_kb
@as_format
@click.option("--filter", "expression", default="", help='For instance "status = ACTIVE".')
def export(file: str, base: str, wanted: str | None, expression: str) -> None:
    """Write entries to FILE ("-": standard output)."""
    request = ExportEntriesRequest(parent=chosen(base), format=exchange_format(file, wanted), filter=expression)
    aside = Path(file + ".part")

    async def receive(target: Any) -> None:
        async with client.stub("knowledge") as stub:
            async for piece in stub.ExportEntries(request, timeout=3600):
                target.write(piece.data)

    if file == "-":
        client.run(receive(sys.stdout.buffer))
        return
    try:
        with aside.open("wb") as target:
            client.run(receive(target))
        aside.replace(file)
    except OSError as error:
        raise Problem(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
