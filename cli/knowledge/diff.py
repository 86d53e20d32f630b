"""What differs between two versions of an entry, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from nesycd.knowledge.v1 import Entry, EntryKind, EntryStatus, Source
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

_TOKEN = re.compile(r"\s+|[^\W_]+|.", re.S)
_EXACT = 1500  # words up to which every small similarity is looked for
SAME, REMOVED, ADDED = "same", "removed", "added"


@dataclass(frozen=True)
class Piece:
    """A stretch of a text that is the same in both versions, or in one only."""

    kind: str
    text: str


@dataclass(frozen=True)
class Change:
    """A field that differs.

    Attributes:
        field: Its name in the contract.
        before: Its values before, one a line of the field; a text has one.
        after: Its values now.
    """

    field: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def pieces(before: str, after: str) -> list[Piece]:
    """What two texts have in common and what not, in order, by words."""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    matcher = SequenceMatcher(None, old, new, autojunk=max(len(old), len(new)) > _EXACT)
    found: list[Piece] = []
    removed = added = ""

    def flush() -> None:
        nonlocal removed, added
        found.extend(Piece(kind, text) for kind, text in ((REMOVED, removed), (ADDED, added)) if text)
        removed = added = ""

    steps = matcher.get_opcodes()
    for at, (step, i, j, k, m) in enumerate(steps):
        if step != "equal":
            removed, added = removed + "".join(old[i:j]), added + "".join(new[k:m])
            continue
        same = "".join(old[i:j])
        if not same.strip() and 0 < at < len(steps) - 1:
            # A blank between two changes: one change is easier to read.
            removed, added = removed + same, added + same
            continue
        flush()
        found.append(Piece(SAME, same))
    flush()
    return found


def marked(found: Sequence[Piece], *, coloured: bool, around: int | None = None, only: str = "") -> Text:
    """Pieces as one text in which what differs is seen.

    Args:
        found: The pieces.
        coloured: By colour; else by signs: [-removed-] and {+added+}.
        around: Characters of common text kept around what differs; None: all.
        only: REMOVED or ADDED: that version alone, without signs.
    """
    text = Text()
    for at, piece in enumerate(found):
        if piece.kind == SAME:
            text.append(_shortened(piece.text, around, at == 0, at == len(found) - 1))
        elif only and piece.kind != only:
            continue
        elif only:
            text.append(piece.text, style=_ALONE[piece.kind])
        elif coloured:
            text.append(piece.text, style=_TOGETHER[piece.kind])
        else:
            text.append(f"[-{piece.text}-]" if piece.kind == REMOVED else f"{{+{piece.text}+}}")
    return text


_TOGETHER = {REMOVED: "red strike", ADDED: "bold green"}
_ALONE = {REMOVED: "bold red", ADDED: "bold green"}


def _shortened(text: str, around: int | None, first: bool, last: bool) -> str:
    if around is None or len(text) <= 2 * around + 3:
        return text
    head = "" if first else text[:around].rsplit(" ", 1)[0] + " "
    tail = "" if last else " " + text[-around:].split(" ", 1)[-1]
    return f"{head}…{tail}"


def has_colour(console: Console) -> bool:
    """Whether a console shows colours."""
    return console.color_system is not None and not console.no_color


def source_line(source: Source) -> str:
    """Where an entry came from, in a line."""
    parts = (source.case_id and f"case {source.case_id}", source.author, source.citation, source.run)
    return ", ".join(part for part in parts if part) or source.teacher_call


def changes(before: Entry, after: Entry) -> Iterator[Change]:
    """The fields that people and runs write and that differ; the text comes first."""
    for field in ("text", "title", "index_text"):
        one, other = getattr(before, field), getattr(after, field)
        if one != other:
            yield Change(field, (one,), (other,))
    for field, enum in (("kind", EntryKind), ("status", EntryStatus)):
        one, other = (enum.Name(getattr(e, field)).removeprefix(f"ENTRY_{field.upper()}_") for e in (before, after))
        if one != other:
            yield Change(field, (one,), (other,))
    if before.superseded_by != after.superseded_by:
        yield Change("superseded_by", (before.superseded_by,), (after.superseded_by,))
    if before.review_reason != after.review_reason and after.review_reason:
        yield Change("review_reason", (before.review_reason,), (after.review_reason,))
    for field, lines in (("tags", list), ("sources", lambda values: [source_line(value) for value in values])):
        one, other = lines(getattr(before, field)), lines(getattr(after, field))
        if one != other:
            yield Change(field, tuple(one), tuple(other))


def print_changes(before: Entry, after: Entry, console: Console, *, around: int | None = None, indent: int = 0) -> None:
    """Shows what differs between two versions of an entry.

    Args:
        before: One.
        after: The other.
        console: Where.
        around: See marked.
        indent: Blanks before each line.
    """
    coloured = has_colour(console)
    for change in changes(before, after):
        line = Text.assemble((f"{change.field.replace('_', ' ')}: ", "dim"))
        if change.field in ("tags", "sources"):
            parts = [Piece(REMOVED, v) for v in change.before if v not in change.after]
            parts += [Piece(ADDED, v) for v in change.after if v not in change.before]
            shown = [marked([part], coloured=coloured) for part in parts[:20]]
            shown += [Text(f"and {len(parts) - 20} more")] if len(parts) > 20 else []
            line.append(Text(", ").join(shown) if shown else Text("another order"))
        elif change.field in ("kind", "status", "superseded_by"):
            line.append(f"{change.before[0] or 'none'} → {change.after[0] or 'none'}")
        else:
            line.append(marked(pieces(change.before[0], change.after[0]), coloured=coloured, around=around))
        console.print(Padding(line, (0, 0, 0, indent), expand=False))
