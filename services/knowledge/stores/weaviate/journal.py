"""Writes of several objects as one: a redo log.

Weaviate has no transactions, but writes one object whole or not at all. So a commit of several objects is first
written down, in pieces; the object of its number of pieces is what makes it happen. Then the objects are put, and the
record goes. What a kill leaves is either a record without its last object, which is dropped, or a whole one, which is
done again: putting the same objects twice does no harm.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from weaviate.classes.query import Filter as By

from services.knowledge.entries import from_json
from services.knowledge.stores import Vector
from services.knowledge.stores.weaviate.objects import (
    REVISION_PROPERTIES,
    Thing,
    derived_id,
    entry_thing,
    revision_thing,
)

_PIECE = 4_000_000  # characters
_MANY = 10_000  # the most objects that the server returns at once


@dataclass(slots=True)
class Record:
    """What a commit puts.

    Attributes:
        entries: Objects of entries; they replace those that are there.
        revisions: Objects of earlier revisions; they come first.
        requests: Ids of objects in REQUESTS, with their properties; they come last.
    """

    entries: list[Thing] = field(default_factory=list)
    revisions: list[Thing] = field(default_factory=list)
    requests: list[Thing] = field(default_factory=list)

    def to_json(self) -> str:
        """As it is written down: what can be derived again is left out."""
        parts = {
            "entries": [[_read_back(one), one.properties["version"], _packed(one.vectors)] for one in self.entries],
            "revisions": [_read_back(one) for one in self.revisions],
            "requests": [[one.id, one.properties] for one in self.requests],
        }
        return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """What to_json wrote."""
        parts = json.loads(text)
        return cls(
            [
                entry_thing(from_json(body), version, author, reason, _unpacked(vectors))
                for (body, author, reason), version, vectors in parts["entries"]
            ],
            [revision_thing(from_json(body), author, reason) for body, author, reason in parts["revisions"]],
            [Thing(request_id, properties) for request_id, properties in parts["requests"]],
        )


def _read_back(thing: Thing) -> list[Any]:
    return [thing.properties[name] for name in REVISION_PROPERTIES]


def _packed(vectors: dict[str, Vector]) -> dict[str, str]:
    return {name: base64.b64encode(vector.astype("<f4").tobytes()).decode() for name, vector in vectors.items()}


def _unpacked(vectors: dict[str, str]) -> dict[str, Vector]:
    return {name: np.frombuffer(base64.b64decode(text), "<f4") for name, text in vectors.items()}


def pieces(kb: str, commit: str, record: Record) -> list[Thing]:
    """The objects of a record. All but the last may be written in any order; the last one is the commit point."""
    text = record.to_json()
    bodies = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    common: dict[str, Any] = {"kb": kb, "commit": commit, "parts": len(bodies)}
    things = [
        Thing(derived_id("piece", commit, str(part)), {**common, "part": part, "body": body})
        for part, body in enumerate(bodies[1:], 1)
    ]
    # The first piece goes last.
    return [*things, Thing(derived_id("piece", commit, "0"), {**common, "part": 0, "body": bodies[0]})]


def is_of(kb: str) -> Any:
    """The filter of a base's pieces."""
    return By.by_property("kb").equal(kb)


async def unfinished(collection: Any, kb: str) -> AsyncIterator[tuple[str, Record | None]]:
    """Commits that were written down and not taken away, oldest first; None where one does not count."""
    found = await collection.query.fetch_objects(
        filters=is_of(kb), limit=_MANY, return_properties=["commit", "part", "parts"]
    )
    commits: dict[str, list[Any]] = {}
    for piece in found.objects:
        commits.setdefault(piece.properties["commit"], []).append(piece)
    for commit in sorted(commits):
        known = sorted(commits[commit], key=lambda piece: piece.properties["part"])
        if known[0].properties["part"] != 0 or len(known) != known[0].properties["parts"]:
            yield commit, None
            continue
        bodies: list[str] = []
        for piece in known:
            whole = await collection.query.fetch_object_by_id(piece.uuid, return_properties=["body"])
            bodies.append(whole.properties["body"])
        yield commit, Record.from_json("".join(bodies))


def commits_are(commits: Sequence[str]) -> Any:
    """The filter of some commits' pieces."""
    return By.by_property("commit").contains_any(list(commits))
