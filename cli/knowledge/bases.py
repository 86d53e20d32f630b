"""Knowledge bases: list, create, rename, delete, stats."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping, Sequence

import click
from google.protobuf.field_mask_pb2 import FieldMask
from nesycd.knowledge.v1 import (
    CreateKnowledgeBaseRequest,
    DeleteKnowledgeBaseRequest,
    Entry,
    GetKnowledgeBaseRequest,
    GetKnowledgeBaseStatisticsRequest,
    GetKnowledgeBaseStatisticsResponse,
    KnowledgeBase,
    ListKnowledgeBasesRequest,
    UpdateKnowledgeBaseRequest,
)
from rich.table import Table
from rich.text import Text

from cli import client
from cli.knowledge import names
from cli.knowledge.looks import print_json
from cli.knowledge.options import as_json, err, in_kb, out
from cli.problems import Problem
from cli.watch import to_json


@click.command("list")
@as_json
def list_bases(json_output: bool) -> None:
    """The knowledge bases."""
    pages = names.pages("ListKnowledgeBases", ListKnowledgeBasesRequest(page_size=1000))
    bases = [base for page in pages for base in page.knowledge_bases]
    if json_output:
        print_json(bases)
        return
    if not bases:
        err.print("There is none yet; `nesycd kb create ID` makes one, and so does a run.")
        return
    table = Table("knowledge base", "title", "entries", "active", "embedder")
    for base in bases:
        counts = str(base.entry_count), str(base.active_entry_count)
        table.add_row(base.name, Text(base.title), *counts, Text(_embedder(base)))
    out.print(table)


def _embedder(base: KnowledgeBase) -> str:
    if not base.HasField("embedder_rebuild"):
        return base.embedder or "-"
    rebuild = base.embedder_rebuild
    share = rebuild.done_count / rebuild.entry_count if rebuild.entry_count else 0
    return f"{base.embedder or '-'}, then {rebuild.embedder} ({share:.0%} of the vectors made)"


@click.command()
@click.argument("base_id", metavar="ID")
@click.option("--title", default="", help="A line for people.")
@click.option("--description", default="", help="What it is about.")
@as_json
def create(base_id: str, title: str, description: str, json_output: bool) -> None:
    """Make a knowledge base."""
    request = CreateKnowledgeBaseRequest(
        knowledge_base_id=base_id.removeprefix("knowledgeBases/"),
        knowledge_base=KnowledgeBase(title=title, description=description),
        request_id=str(uuid.uuid4()),
    )
    made = client.call("knowledge", "CreateKnowledgeBase", request).knowledge_base
    click.echo(to_json(made) if json_output else made.name)


@click.command()
@click.argument("base_id", metavar="KB")
@click.option("--title", help="The new title.")
@click.option("--description", help="The new description.")
@as_json
def rename(base_id: str, title: str | None, description: str | None, json_output: bool) -> None:
    """Change a knowledge base's title or description; its id stays."""
    paths = [path for path, value in (("title", title), ("description", description)) if value is not None]
    if not paths:
        raise click.UsageError("say what is new: --title, --description")
    base = KnowledgeBase(name=names.kb_name(base_id), title=title, description=description)
    request = UpdateKnowledgeBaseRequest(knowledge_base=base, update_mask=FieldMask(paths=paths))
    now = client.call("knowledge", "UpdateKnowledgeBase", request).knowledge_base
    if json_output:
        click.echo(to_json(now))
    else:
        err.print(Text(f"{now.name}: {now.title}" + (f"\n{now.description}" if now.description else "")))


@click.command()
@click.argument("base_id", metavar="KB")
@click.option("--force", is_flag=True, help="With all its entries and their history, unasked.")
def delete(base_id: str, force: bool) -> None:
    """Remove a knowledge base for good; one that holds entries only when you confirm it."""
    name = names.kb_name(base_id)
    base = client.call("knowledge", "GetKnowledgeBase", GetKnowledgeBaseRequest(name=name)).knowledge_base
    if base.entry_count and not force:
        what = f"{name} has {base.entry_count} entries, which go with all their history"
        if not sys.stdin.isatty():
            raise Problem(f"{what}: export them first, then repeat with --force")
        typed = click.prompt(f"{what}. Type its id to remove it", err=True).strip()
        if names.kb_name(typed) != name:
            raise Problem("that is another id; nothing was removed")
    client.call("knowledge", "DeleteKnowledgeBase", DeleteKnowledgeBaseRequest(name=name, force=True), timeout=600)
    err.print(f"{name} is removed.")


# --- statistics


@click.command()
@in_kb
@click.option("--top", type=click.IntRange(1, 100), default=10, show_default=True, help="How many entries and tags.")
@as_json
def stats(base: str, top: int, json_output: bool) -> None:
    """What a knowledge base holds, in figures: which entries help, which harm."""
    request = GetKnowledgeBaseStatisticsRequest(name=names.chosen(base), top_count=top)
    found = client.call("knowledge", "GetKnowledgeBaseStatistics", request)
    if json_output:
        click.echo(to_json(found))
    else:
        _print_statistics(found)


def _print_statistics(found: GetKnowledgeBaseStatisticsResponse) -> None:
    base, sums = found.knowledge_base, found.counters
    out.print(Text.assemble((base.name, "bold"), f"  {base.title}"))
    if base.description:
        out.print(Text(base.description, style="dim"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("entries", str(base.entry_count))
    facts.add_row("by status", _counts(found.by_status, "ENTRY_STATUS_"))
    facts.add_row("by kind", _counts(found.by_kind, "ENTRY_KIND_"))
    facts.add_row("tags", Text(", ".join(f"{tag.tag} {tag.count}" for tag in found.tags) or "none"))
    facts.add_row("answers", f"used {sums.used}, helped {sums.helpful}, harmed {sums.harmful}")
    facts.add_row("embedder", Text(_embedder(base)))
    out.print(facts)
    for heading, field, entries in (
        ("used most", "used", found.most_used),
        ("helped most", "helpful", found.most_helpful),
        ("harmed most", "harmful", found.most_harmful),
    ):
        if entries:
            out.print(_ranking(heading, field, entries))
    if drafts := found.by_status.get("ENTRY_STATUS_DRAFT", 0):
        err.print(f"Waiting for a person: {drafts}; see `nesycd kb review`.")


def _counts(counts: Mapping[str, int], prefix: str) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name.removeprefix(prefix).lower()} {count}" for name, count in ordered if count) or "none"


def _ranking(heading: str, field: str, entries: Sequence[Entry]) -> Table:
    table = Table(box=None, pad_edge=False, title=heading, title_justify="left", show_header=False)
    table.add_column(justify="right")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for entry in entries:
        table.add_row(str(getattr(entry.counters, field)), names.short_id(entry.name), Text(entry.text))
    return table
