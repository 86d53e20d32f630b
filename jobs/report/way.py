"""What became of the rows on their way through the stages: what was given, and what was left out where, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.artifacts import StageFolder

_REASONS = {
    "NO_ANSWER": "the teacher's text has no answer",
    "WRONG_ANSWER": "the teacher's answer is not the row's",
    "NO_RATIONALE": "the teacher wrote no reasoning",
    "UNCHANGED": "the teacher's change cannot be used",
}
"""Reasons that are no errors; an error is named as docs/errors.md does."""


@dataclass(frozen=True)
class Line:
    """A count.

    Attributes:
        stage: Where.
        what: What is counted.
        count: How many.
        of: Of how many; 0: of nothing.
    """

    stage: str
    what: str
    count: int
    of: int = 0


def collect(stages: Mapping[tuple[str, int], StageFolder]) -> list[Line]:
    """The counts, in the order of the stages.

    Args:
        stages: Folder of each finished stage, by name and round.
    """
    several = len({number for _, number in stages}) > 1
    lines = []
    for (name, number), folder in stages.items():
        if name in _TELLERS and (manifest := folder.manifest()):
            place = f"{name}, round {number}" if several and name in _REPEATED else name
            lines += [Line(place, *line) for line in _TELLERS[name](manifest, folder)]
    return lines


def _prepared(manifest: Mapping[str, Any], folder: StageFolder) -> Iterable[tuple[Any, ...]]:
    rows = manifest["rows"]
    held_out = rows.get("held_out", 0)
    yield "training rows given", rows["train"] + held_out
    if held_out:
        yield "set aside, nothing is trained on them", held_out, rows["train"] + held_out
    yield "test rows given", rows["test"]
    if manifest["shared_questions"]:
        yield "test questions that are training questions too", manifest["shared_questions"], rows["test"]


def _rationalized(manifest: Mapping[str, Any], folder: StageFolder) -> Iterable[tuple[Any, ...]]:
    total = manifest["accepted"] + manifest["rejected"]
    yield "rationales accepted", manifest["accepted"], total
    yield from _left_out((record["reason"] for record in _lines(folder, "rejected.jsonl")), total)


def _trained(manifest: Mapping[str, Any], folder: StageFolder) -> Iterable[tuple[Any, ...]]:
    changed = _lines(folder, "counterfactuals.jsonl")
    if changed:
        yield "counterfactual rows that can be used", sum("answer" in record for record in changed), len(changed)
        yield from _left_out((record["reason"] for record in changed if "reason" in record), len(changed))
    rows, dropped = manifest["training"]["rows"], manifest["training"]["dropped"]
    yield "rows trained on", rows, rows + dropped
    if dropped:
        yield "left out: longer than training.max_length", dropped, rows + dropped


def _diagnosed(manifest: Mapping[str, Any], folder: StageFolder) -> Iterable[tuple[Any, ...]]:
    total = manifest["rows"]
    yield "hard cases", total - manifest["correct"], total
    rates = [record["pass_rate"] for record in _lines(folder, "responses.jsonl")]
    if any(0 < rate < 1 for rate in rates):
        yield "right in none of their samples", sum(rate == 0 for rate in rates), total
        yield "right in some, up to half", sum(0 < rate <= 0.5 for rate in rates), total
        yield "right in more than half, not all", sum(0.5 < rate < 1 for rate in rates), total
        yield "right in all", sum(rate == 1 for rate in rates), total


def _extracted(manifest: Mapping[str, Any], folder: StageFolder) -> Iterable[tuple[Any, ...]]:
    cases, total = _lines(folder, "cases.jsonl"), manifest["cases"]
    yield "hard cases that became entries", total - manifest["failed_cases"], total
    yield from _left_out((case["error"]["reason"] for case in cases if "error" in case), total)
    if leaked := sum(case.get("leaked", 0) for case in cases):
        yield "pieces of entries refused because they gave the answer away", leaked


_TELLERS: dict[str, Callable[[Mapping[str, Any], StageFolder], Iterable[tuple[Any, ...]]]] = {
    "prepare": _prepared, "rationalize": _rationalized, "train-general": _trained, "diagnose": _diagnosed,
    "extract": _extracted, "train-augmented": _trained,
}  # fmt: skip
_REPEATED = ("diagnose", "extract", "train-augmented")


def _left_out(reasons: Iterable[str], total: int) -> Iterable[tuple[str, int, int]]:
    for reason, count in sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0])):
        yield f"left out: {_REASONS.get(reason, reason)}", count, total


def _lines(folder: StageFolder, name: str) -> list[dict[str, Any]]:
    return folder.read_jsonl(name) if folder.has(name) else []
