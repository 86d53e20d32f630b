"""Filters of the contract as filters of Weaviate, with the same meaning as services.knowledge.filters."""

from __future__ import annotations

from collections.abc import Collection

from weaviate.classes.query import Filter as By
from weaviate.collections.classes.filters import _Filters as Where

from services.knowledge.entries import Entry, EntryStatus
from services.knowledge.filters import And, Compare, Filter, Not, Or, comparisons
from services.knowledge.search import Query

# Property of each field of a source.
SOURCE_PROPERTIES = {
    "case_id": "case_ids",
    "run": "runs",
    "teacher_call": "teacher_calls",
    "author": "authors",
    "citation": "citations",
}
_NOTHING = By.by_property("traits").equal("nothing")  # there is no such trait
_OPERATORS = {
    "=": "equal",
    ":": "equal",
    "!=": "not_equal",
    "<": "less_than",
    "<=": "less_or_equal",
    ">": "greater_than",
    ">=": "greater_or_equal",
}
_LARGEST = 2**62


def traits(entry: Entry) -> list[str]:
    """What `field:*` and `field = ""` look for: fields that hold something, and `field=` where a source lacks one."""
    found = ["tags"] if entry.tags else []
    for field in SOURCE_PROPERTIES:
        values = {getattr(source, field) for source in entry.sources}
        if any(values):
            found.append(f"sources.{field}")
        if "" in values:
            found.append(f"sources.{field}=")
    return found


def where(node: Filter) -> Where:
    """A filter as the server takes it."""
    if isinstance(node, And):
        return By.all_of([where(part) for part in node.parts])
    if isinstance(node, Or):
        return By.any_of([where(part) for part in node.parts])
    if isinstance(node, Not):
        return By.not_(where(node.part))
    return _comparison(node)


def _comparison(node: Compare) -> Where:
    group, _, part = node.field.partition(".")
    if group in ("tags", "sources"):
        name = "tags" if group == "tags" else SOURCE_PROPERTIES[part]
        text = str(node.value)
        if text == "*":
            return By.by_property("traits").equal(node.field)
        if not text:
            return By.by_property("traits").equal(f"{node.field}=") if group == "sources" else _NOTHING
        # The server would cut blanks off the ends, and no tag or source has any.
        return By.by_property(name).equal(text) if text == text.strip() else _NOTHING
    value = min(int(node.value), _LARGEST)
    found: Where = getattr(By.by_property(part or group), _OPERATORS[node.op])(value)
    return found


def allowed(query: Query) -> Where:
    """Which entries a search may find."""
    parts = [] if query.filter is None else [where(query.filter)]
    if not any(part.field == "status" for part in comparisons(query.filter)):
        parts.append(By.by_property("status").equal(int(EntryStatus.ACTIVE)))
    if query.exclude:
        parts.append(By.by_id().contains_none(sorted(query.exclude)))
    if query.exclude_sole_source_case:
        parts.append(By.by_property("sole_case").contains_none([query.exclude_sole_source_case]))
    return all_of(parts)


def all_of(parts: Collection[Where]) -> Where:
    """All must hold; at least one is given."""
    return next(iter(parts)) if len(parts) == 1 else By.all_of(list(parts))
