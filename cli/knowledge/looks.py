"""How entries look on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

import click
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from nesycd.knowledge.v1 import (
    ENTRY_STATUS_ACTIVE,
    ENTRY_STATUS_DRAFT,
    REVIEW_CAUSE_CONTRADICTION,
    REVIEW_CAUSE_NEAR_DUPLICATE,
    Entry,
    EntryKind,
    EntryStatus,
)
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.knowledge import diff
from cli.knowledge.names import entry_id, short_id
from cli.knowledge.options import out

WIDE = 80
"""Columns that a terminal needs for tables, and for two entries side by side."""

CAUSES = {
    REVIEW_CAUSE_CONTRADICTION: "contradicts another entry",
    REVIEW_CAUSE_NEAR_DUPLICATE: "repeats another entry in other words",
}
_STATUS_STYLES = {ENTRY_STATUS_ACTIVE: "green", ENTRY_STATUS_DRAFT: "yellow"}


def to_dict(message: Message) -> dict[str, Any]:
    """A message as JSON has it, with the contract's field names."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def print_json(messages: Iterable[Message]) -> None:
    """A list for a script."""
    click.echo(json.dumps([to_dict(message) for message in messages]))


def short(value: int, enum: Any, prefix: str) -> str:
    """ENTRY_STATUS_ACTIVE as "active"."""
    return enum.Name(value).removeprefix(prefix).lower()


def status_of(entry: Entry) -> str:
    """The status as a word."""
    return short(entry.status, EntryStatus, "ENTRY_STATUS_")


def when(time: Timestamp) -> str:
    """A time as the clock on the wall shows it."""
    return time.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def why_it_waits(entry: Entry) -> str:
    """Why a draft waits for a person."""
    return entry.review_reason or CAUSES.get(entry.review_cause, "a draft")


def _facts(entry: Entry) -> str:
    counters = entry.counters
    facts = [f"{short(entry.kind, EntryKind, 'ENTRY_KIND_')}, {status_of(entry)}, revision {entry.revision}"]
    if counters.used or counters.helpful or counters.harmful:
        facts.append(f"used {counters.used}, helped {counters.helpful}, harmed {counters.harmful}")
    facts += [f"tags: {', '.join(entry.tags)}"] if entry.tags else []
    return " · ".join(facts)


def _origins(entry: Entry, most: int) -> list[str]:
    lines = [f"from {diff.source_line(source)}" for source in entry.sources[:most]]
    return lines + ([f"and {len(entry.sources) - most} more sources"] if len(entry.sources) > most else [])


def print_entry(entry: Entry) -> None:
    """An entry for a person."""
    if entry.title:
        out.print(entry.title, style="italic", markup=False)
    out.print(entry.text, style="bold", markup=False, highlight=False)
    if entry.index_text:
        out.print(f"the search reads: {entry.index_text}", style="dim", markup=False, highlight=False)
    out.print(entry.name, style="dim", soft_wrap=True)
    out.print(_facts(entry), markup=False)
    if entry.superseded_by:
        out.print(f"its place was taken by {entry_id(entry.superseded_by)}", style="yellow", markup=False)
    for line in _origins(entry, 10):
        out.print(f"  {line}", style="dim", markup=False)


def table_of(entries: Sequence[Entry], console: Console) -> Table:
    """Entries, one a row; where the terminal is narrow the text has a line of its own under the facts."""
    table = Table(box=None, pad_edge=False, show_header=console.width >= WIDE)
    if console.width < WIDE:
        table.add_column(overflow="fold")
        for entry in entries:
            facts = Text(f"{short_id(entry.name)}  {status_of(entry)}  r{entry.revision}", style="dim")
            table.add_row(Group(facts, Text(entry.text)))
        return table
    table.add_column("id", style="dim", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("rev", justify="right", no_wrap=True)
    table.add_column("text", ratio=1, overflow="fold")
    for entry in entries:
        table.add_row(
            short_id(entry.name),
            Text(status_of(entry), style=_STATUS_STYLES.get(entry.status, "dim")),
            short(entry.kind, EntryKind, "ENTRY_KIND_"),
            str(entry.revision),
            Text.assemble(entry.text, (f"  {', '.join(entry.tags)}", "dim")),
        )
    return table


def print_review(entry: Entry, conflicts: Sequence[Entry], heading: str) -> None:
    """An entry that waits, beside those that it repeats or contradicts."""
    out.rule(Text(heading), align="left", style="dim")
    out.print(Text(f"{why_it_waits(entry)}", style="yellow"))
    colour = diff.has_colour(out)
    found = diff.pieces(conflicts[0].text if conflicts else entry.text, entry.text)
    mine = diff.marked(found, coloured=colour, only=diff.ADDED)
    panels = [_panel(entry, mine, f"waits: {short_id(entry.name)}", "yellow")]
    for number, other in enumerate(conflicts, start=1):
        found = diff.pieces(other.text, entry.text)
        text = diff.marked(found, coloured=colour, only=diff.REMOVED)
        panels.append(_panel(other, text, f"{number}: {short_id(other.name)}", "cyan"))
    if out.width < WIDE or len(panels) == 1:
        for panel in panels:
            out.print(panel)
        return
    # One grid, so that the panel that waits stands beside the first of the others and the rest below that.
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(panels[0], Group(*panels[1:]))
    out.print(grid)


def _panel(entry: Entry, text: Text, title: str, style: str) -> Panel:
    parts: list[Any] = [Text(entry.title, style="italic")] if entry.title else []
    parts += [text, Text(_facts(entry), style="dim")]
    parts += [Text(line, style="dim") for line in _origins(entry, 3)]
    return Panel(Group(*parts), title=Text(title), title_align="left", border_style=style)


def tell_waiting(entry: Entry, conflicts: Sequence[Entry], base: str, console: Console) -> None:
    """Says why a draft waits, and what can be done now.

    Args:
        entry: The draft.
        conflicts: The entries that it repeats or contradicts.
        base: The knowledge base as the person named it, or nothing.
        console: Where.
    """
    where = f" --kb {base}" if base else ""
    one = short_id(entry.name)
    console.print(Text(f"It waits for a person and is not used yet: {why_it_waits(entry)}", style="yellow"))
    for other in conflicts:
        console.print(Text(f"  {short_id(other.name)}  {status_of(other)}: {other.text}"))
    next_steps = [
        (f"nesycd kb approve {one}{where}", "both are right" if conflicts else "it is right"),
        (f"nesycd kb reject {one}{where}", "it is wrong"),
    ]
    if conflicts:
        next_steps[1:1] = [
            (f"nesycd kb replace {one}{where}", "it is right, the other is not"),
            (f"nesycd kb merge {one}{where}", "both say the same"),
        ]
    width = max(len(step) for step, _ in next_steps)
    for step, meaning in next_steps:
        console.print(Text(f"  {step:{width}}  # {meaning}"), soft_wrap=True)
