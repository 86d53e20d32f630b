"""What a report tells of the knowledge base."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.artifacts import StageFolder

_MOST = 10


def collect(latest: Mapping[str, StageFolder], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Size, kinds, sources and statuses; the entries that were used most and those that harmed most.

    Args:
        latest: The stages' folders by name.
        summary: The evaluation's.
    """
    entries = _snapshot(latest)
    cases = Counter(len({source.get("caseId", "") for source in e.get("sources", [])}) for e in entries)
    read = summary["entries"]
    return {
        "there": any(name in latest for name in ("extract", "passages")),
        "entries": len(entries),
        "characters": sum(len(e.get("text", "")) for e in entries),
        "kinds": Counter(_plain(e.get("kind", ""), "ENTRY_KIND_") for e in entries),
        "statuses": Counter(_plain(e.get("status", ""), "ENTRY_STATUS_") for e in entries),
        "waiting": sum(e.get("status") == "ENTRY_STATUS_DRAFT" for e in entries),
        "sources": sum(len(e.get("sources", [])) for e in entries),
        "shared": sum(number for count, number in cases.items() if count > 1),
        "tags": Counter(tag for e in entries for tag in e.get("tags", ())).most_common(_MOST),
        "read": len(read),
        "most_used": sorted(read, key=lambda e: -e["used"])[:_MOST],
        "most_harmful": sorted((e for e in read if e["harmed"]), key=lambda e: (e["helped"] - e["harmed"], -e["harmed"]))[:_MOST],
        "utility": utility(latest),
    }  # fmt: skip


def utility(latest: Mapping[str, StageFolder]) -> dict[str, Any]:
    """What the stage `validate` measured of entries on training rows; empty where it did not."""
    folder = latest.get("validate")
    if folder is None or not folder.has("utility.jsonl"):
        return {}
    rows = folder.read_jsonl("utility.jsonl")
    # A run that measured before an upgrade and is reported after it has no `own`: then nothing is told apart.
    apart = all("own" in row for row in rows)
    return {
        "entries": len(rows),
        "helped": sum(row["score"] > 0 for row in rows),
        "harmed": sum(row["score"] < 0 for row in rows),
        "cases": sum(row["cases"] for row in rows),
        "fixed": sum(row["fixed"] for row in rows),
        "effects": [
            {"where": where, "entries": sum(p["used"] > 0 for p in parts),
             **{key: sum(p[key] for p in parts) for key in ("used", "helped", "harmed")}}
            for where, parts in (
                ("the rows that they came from", [row["own"] for row in rows]),
                ("other rows", [{key: row[key] - row["own"][key] for key in row["own"]} for row in rows]),
            )
        ] if apart else [],
        "retired": [row for row in rows if row["retire"]],
    }  # fmt: skip


def _snapshot(latest: Mapping[str, StageFolder]) -> Sequence[dict[str, Any]]:
    """The knowledge base as the last stage that changed it left it."""
    for stage in ("extract", "passages"):
        if stage in latest and latest[stage].has("entries.jsonl"):
            return latest[stage].read_jsonl("entries.jsonl")
    return []


def _plain(value: str, prefix: str) -> str:
    return value.removeprefix(prefix).lower() or "unknown"
