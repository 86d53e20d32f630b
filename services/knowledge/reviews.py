"""What waits for a person: why an entry does, and what comes of a decision."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from services.common.errors import FailedPrecondition, InvalidArgument
from services.knowledge import hygiene, names, reasons
from services.knowledge.entries import IN_USE, MAX_CONFLICTS, Entry, EntryKind, EntryStatus, ReviewCause, with_sources
from services.knowledge.hygiene import Likeness

_SHOWN = 160  # characters of another entry's text in a reason


class Decision(IntEnum):
    """What a person decides about an entry that waits. The numbers are the contract's."""

    APPROVE = 1
    REJECT = 2
    MERGE = 3
    REPLACE = 4


@dataclass(frozen=True, slots=True)
class Review:
    """An entry that waits, with the entries that it repeats or contradicts, as they are now."""

    entry: Entry
    conflicts: tuple[Entry, ...]


def waiting(entry: Entry, alike: Iterable[Entry], near: Iterable[Entry]) -> Entry | None:
    """The entry as a DRAFT that says what it repeats or contradicts, or None where it does neither.

    Args:
        entry: The new entry.
        alike: Entries that have a claim key in common with it.
        near: Entries whose vectors are near.
    """
    repeated: dict[str, Entry] = {}
    contradicted: list[Entry] = []
    is_fact = entry.kind is EntryKind.FACT
    for other in alike:
        if other.kind is not entry.kind:
            continue
        likeness = hygiene.compare(entry.text, other.text)
        if likeness is Likeness.REPEATS:
            # What a person retired must not come back in other words either.
            repeated[other.id] = other
        elif likeness is Likeness.CONTRADICTS and is_fact and other.status in IN_USE:
            contradicted.append(other)
    for other in near:
        if is_fact and other.kind is entry.kind and hygiene.is_similar(entry.text, other.text):
            repeated.setdefault(other.id, other)
    if not repeated and not contradicted:
        return None
    conflicts = [
        other
        for found in (contradicted, [other for other in repeated.values() if other not in contradicted])
        for other in sorted(found, key=lambda other: (other.status is not EntryStatus.ACTIVE, other.id))
    ]
    return dataclasses.replace(
        entry,
        status=EntryStatus.DRAFT,
        review_cause=ReviewCause.CONTRADICTION if contradicted else ReviewCause.NEAR_DUPLICATE,
        review_reason=_reason(conflicts, bool(contradicted)),
        conflicts=tuple(other.id for other in conflicts[:MAX_CONFLICTS]),
    )


def _reason(conflicts: Sequence[Entry], is_contradiction: bool) -> str:
    first = conflicts[0]
    text = " ".join(first.text.split())
    said = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    status = "" if first.status is EntryStatus.ACTIVE else f", which is {first.status.name}"
    more = f"; and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
    return f"It {'contradicts' if is_contradiction else 'says in other words'} “{said}”{status}{more}."


def resolve(entry: Entry, decision: Decision, others: Sequence[Entry]) -> tuple[Entry, list[Entry]]:
    """What becomes of an entry that waits, and of the others.

    Args:
        entry: The entry.
        decision: What the person decided.
        others: MERGE and REPLACE: the entries that it is about.

    Returns:
        The entry and the others as they shall be.

    Raises:
        FailedPrecondition: The entry does not wait, or the other one cannot hold more sources.
        InvalidArgument: The number of others does not fit the decision.
    """
    if entry.status is not EntryStatus.DRAFT:
        name = names.entry_name(entry.kb, entry.id)
        raise FailedPrecondition(
            f"{name} is {entry.status.name}: only a DRAFT waits for a decision",
            reason=reasons.NOT_IN_REVIEW,
            subject=name,
            metadata={"status": entry.status.name},
        )
    settled = dataclasses.replace(entry, review_reason="", review_cause=ReviewCause.NONE, conflicts=())
    if decision is Decision.APPROVE:
        return dataclasses.replace(settled, status=EntryStatus.ACTIVE), []
    if decision is Decision.REJECT:
        return dataclasses.replace(settled, status=EntryStatus.RETIRED), []
    if decision is Decision.MERGE:
        if len(others) != 1:
            raise InvalidArgument(
                f"MERGE needs exactly one other entry, and there are {len(others)}: name it in others", field="others"
            )
        status = EntryStatus.SUPERSEDED
        merged = dataclasses.replace(settled, status=status, superseded_by=others[0].id)
        return merged, [with_sources(others[0], entry.sources)]
    if not others:
        raise InvalidArgument("REPLACE needs the entries that are replaced: name them in others", field="others")
    replaced = [
        dataclasses.replace(
            other, status=EntryStatus.SUPERSEDED, superseded_by=entry.id, review_reason="",
            review_cause=ReviewCause.NONE, conflicts=(),
        )
        for other in others
    ]  # fmt: skip
    return dataclasses.replace(settled, status=EntryStatus.ACTIVE), replaced
