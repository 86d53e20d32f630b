"""The figures of an evaluation: what `summary.json` tells. The report tells these and makes none of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from sys import intern
from typing import Any

from method.statistics import bootstrap_interval, compare_seeds

_COMPARED = (
    ("zero_shot", "zero_shot_answer"), ("few_shot", "zero_shot"),
    ("general", "zero_shot"), ("general_answer", "zero_shot_answer"), ("general", "general_answer"),
    ("general_cascade", "general"),
    ("augmented", "zero_shot"), ("augmented", "general"), ("augmented", "shuffled"), ("augmented_answer", "general_answer"),
    ("augmented_answer", "zero_shot_answer"), ("shuffled", "general"), ("imported", "general"), ("imported", "augmented"),
)  # fmt: skip


def summarise(
    answers: Mapping[str, Sequence[Mapping[str, Any]]], imported: Mapping[str, Any], *, headline: str = ""
) -> dict[str, Any]:
    """All figures of an evaluation.

    Args:
        answers: The answers under each condition: one record a row, or one a row and sample.
        imported: What the import of the expert's file did; empty where there was none.
        headline: The condition that stands for the method.
    """
    best = answers.get("imported") or answers.get("augmented") or answers.get("augmented_answer") or []
    sets, kind = sets_of({a["id"]: (a["task"], a.get("dataset", "")) for rows in answers.values() for a in rows})
    summary: dict[str, Any] = {
        "kind": kind,
        "conditions": {name: _figures(rows, sets, kind) for name, rows in answers.items()},
        "comparisons": [
            compare(a, answers[a], b, answers[b]) for a, b in _COMPARED if answers.get(a) and answers.get(b)
        ],
        "entries": helped_and_harmed(best, answers.get("general", [])),
    }
    if headline in answers:
        summary["headline"] = {"condition": headline, **_share(answers[headline])}
    if "imported" in answers and "augmented" in answers:
        held_out = {a["id"] for a in answers["imported"] if a.get("facts") == "held_out"}
        before = [a for a in answers["augmented"] if a["id"] in held_out]
        after = [a for a in answers["imported"] if a["id"] in held_out]
        summary["imported"] = {
            "file": dict(imported), "n": _share(after)["n"], "before": _share(before), "after": _share(after),
        }  # fmt: skip
    if "edited" in answers:
        followed = _share(answers["edited"])
        summary["edited"] = {"n": followed["n"], "followed": followed}
    return summary


def compare(
    a: str, answers_a: Sequence[Mapping[str, Any]], b: str, answers_b: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A paired comparison over the same rows: the difference of accuracy with its interval, and a test of it.

    Where rows were answered several times, a row counts by its share of right answers, in the interval and in the test.
    """
    found = compare_seeds([list(rates(answers_a).values())], [list(rates(answers_b).values())])
    return {
        "a": a, "b": b, "n": found.questions, "difference": found.difference, "low": found.low, "high": found.high,
        "p": found.p, "test": found.test,
    }  # fmt: skip


def sets_of(asked: Mapping[str, tuple[str, str]]) -> tuple[dict[str, list[str]], str]:
    """The parts of the test rows that a plain mean counts the same.

    Args:
        asked: By row id, its task and its data set ("" where it names none).

    Returns:
        Row ids by data set where there are several, else by task; and which of the two it is.
    """
    by_set = {dataset for _, dataset in asked.values()}
    kind = "data set" if len(by_set) > 1 and "" not in by_set else "task"
    sets: dict[str, list[str]] = {}
    for row_id, (task, dataset) in asked.items():
        sets.setdefault(dataset if kind == "data set" else task, []).append(row_id)
    return dict(sorted(sets.items())), kind


def rates(answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The share of right answers to each row, by id, in the order of the rows."""
    right: dict[str, list[bool]] = {}
    for answer in answers:
        right.setdefault(intern(answer["id"]), []).append(bool(answer["correct"]))
    return {row_id: sum(flags) / len(flags) for row_id, flags in right.items()}


def helped_and_harmed(
    reading: Sequence[Mapping[str, Any]], without: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """For each entry that was read: answers that are right with it and wrong without knowledge, and the reverse."""
    bare = {(answer["id"], answer.get("sample", 0)): answer["correct"] for answer in without}
    table: dict[str, dict[str, Any]] = {}
    for answer in reading:
        key = (answer["id"], answer.get("sample", 0))
        for entry in answer["entries"]:
            line = table.setdefault(
                entry["name"] or entry["text"],
                {"name": entry["name"], "text": entry["text"], "used": 0, "helped": 0, "harmed": 0},
            )
            line["used"] += 1
            if key in bare:
                line["helped"] += answer["correct"] and not bare[key]
                line["harmed"] += bare[key] and not answer["correct"]
    return sorted(table.values(), key=lambda e: (-(e["helped"] + e["harmed"]), -e["used"], e["name"], e["text"]))


def _share(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    each = list(rates(answers).values())
    mean, low, high = bootstrap_interval(each) if each else (0.0, 0.0, 0.0)
    return {"n": len(each), "accuracy": mean, "low": low, "high": high}


def _by(answers: Sequence[Mapping[str, Any]], attribute: str) -> dict[str, dict[str, Any]]:
    values = sorted({a[attribute] for a in answers if a.get(attribute)})
    return {value: _share([a for a in answers if a.get(attribute) == value]) for value in values}


def _figures(answers: Sequence[Mapping[str, Any]], sets: Collection[str], kind: str) -> dict[str, Any]:
    families = _by(answers, "task")
    parts = _by(answers, "dataset") if kind == "data set" else families
    return {
        **_share(answers),
        "families": families,
        "facts": _by(answers, "facts"),
        "sets": parts,
        # Of rows that were chosen (those that are edited) a set may have none: they have no mean of all sets.
        "average": fmean(part["accuracy"] for part in parts.values()) if parts and parts.keys() == set(sets) else None,
        "samples": max((a.get("sample", 0) for a in answers), default=0) + 1,
        "errors": sum("error" in a for a in answers),
        "gated": sum(bool(a.get("gated")) for a in answers),
        "truncated": sum(bool(a.get("truncated")) for a in answers),
        "truncated_wrong": sum(bool(a.get("truncated")) and not a["correct"] for a in answers),
        "own_entries": sum(bool(a.get("own_entries")) for a in answers),
        "prompt_tokens": sum(a["prompt_tokens"] for a in answers),
        "completion_tokens": sum(a["completion_tokens"] for a in answers),
        "seconds": round(sum(a["seconds"] for a in answers), 3),
    }  # fmt: skip
