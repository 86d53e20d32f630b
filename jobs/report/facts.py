"""What a report tells, gathered from the files of a run's stages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.artifacts import StageFolder
from jobs.report import knowledge, mistakes, way
from jobs.report.render import Cell, Picture, picture
from method.conditions import CONDITIONS, Condition
from method.methods import UnknownMethod, get_method

Stages = Mapping[tuple[str, int], StageFolder]
_STUDENTS = {
    "base": "The base model as it came",
    "general": "The student after training on the teacher's rows",
    "augmented": "The student after training with knowledge",
}
_MODES = {
    "cot": "reasons, then answers",
    "answer": "writes the answer alone",
    "zero_shot": "is told to reason and how to end",
    "zero_shot_answer": "is asked for the answer alone",
    "cascade": "writes a rationale, reads it, and then answers",
}
_READS = {
    "": "It reads no knowledge.",
    "found": "It reads the entries that it retrieves.",
    "shuffled": "It reads as many entries, but those of another question: what reading alone would give.",
    "imported": "It retrieves after an expert's file with missing facts was imported; nothing was trained for it.",
    "edited": "An entry that the question needs was given another value: counted is how many answers follow it.",
}


def collect(run: Mapping[str, Any], stages: Stages) -> dict[str, Any]:
    """All that the templates need, as plain values.

    Args:
        run: As for make_report.
        stages: As for make_report.
    """
    latest = {name: folder for (name, _), folder in stages.items()}
    evaluate = latest["evaluate"]
    summary = json.loads(evaluate.read("summary.json"))
    figures = {name: part for name, part in told(summary["conditions"]).items() if part["n"]}
    tasks = sorted({task for part in figures.values() for task in part["families"]})
    answers = {name: read_jsonl(evaluate, f"answers.{name}.jsonl") for name in figures}
    several = summary.get("kind") == "data set"
    sets = sorted({name for part in figures.values() for name in part["sets"]}) if several else []
    without, reading = mistakes.pair_of(headline_of(run["spec"]), figures)
    compared = [c for c in summary["comparisons"] if {c["a"], c["b"]} <= set(figures)]
    return {
        "run": run,
        "method": method_of(run["spec"]),
        "titles": {name: title(name) for name in figures},
        "chart": [(title(name), Cell.of(part), shade(name)) for name, part in figures.items()],
        "explained": {name: explain(name) for name in figures},
        "tasks": tasks,
        "overall": {name: Cell.of(part) for name, part in figures.items()},
        "per_task": {n: {task: Cell.of(part["families"].get(task)) for task in tasks} for n, part in figures.items()},
        "mean_of": summary.get("kind", "task") if any(part.get("sets") for part in figures.values()) else "",
        "sets": sets,
        "per_set": {name: {one: Cell.of(part["sets"].get(one)) for one in sets} for name, part in figures.items()},
        "average": {name: part.get("average") for name, part in figures.items()},
        "cut_off": [
            {
                "title": title(name),
                "count": part["truncated"],
                "wrong": part["truncated_wrong"],
                "of": part["n"] * part["samples"],
            }
            for name, part in figures.items()
            if part.get("truncated")
        ],
        "own_entries": {title(name): part["own_entries"] for name, part in figures.items() if part.get("own_entries")},
        "held_out": {
            name: {kind: Cell.of(part["facts"][kind]) for kind in ("seen", "held_out")}
            for name, part in figures.items()
            if name != "edited" and part.get("facts", {}).keys() >= {"seen", "held_out"}
        },
        "comparisons": compared,
        "tested": tested_by(c.get("test", "mcnemar") for c in compared),
        "effort": {name: effort(part) for name, part in figures.items()},
        "knowledge": knowledge.collect(latest, summary),
        "rounds": rounds(stages),
        "way": way.collect(stages),
        "mistakes": mistakes.collect(answers, without, reading),
        "contamination": contamination(evaluate),
        "learning": learning(stages),
        "costs": costs(run.get("stages", [])),
    }


def told(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions in the order of the registry; those that it does not know (any more) last."""
    return {name: conditions[name] for name in [*CONDITIONS, *sorted(set(conditions) - set(CONDITIONS))] if name in conditions}  # fmt: skip


def title(name: str) -> str:
    """How a report names a condition."""
    return CONDITIONS[name].title if name in CONDITIONS else name


def tested_by(tests: Iterable[str]) -> str:
    """Names the tests that gave the p values of a table."""
    mcnemar, permutation = "the exact two-sided McNemar test", "a two-sided paired permutation test over the questions, each with its share of right answers"  # fmt: skip
    used = set(tests)
    if used == {"mcnemar", "permutation"}:
        return f"{mcnemar}; where a question was answered several times (samples or seeds), {permutation}"
    return permutation if used == {"permutation"} else mcnemar


def shade(name: str) -> str:
    """The colour's name of a condition: one for each student, and one for what it reads."""
    condition = CONDITIONS.get(name)
    if condition is None:
        return "base"
    return condition.reads or condition.student


def explain(name: str) -> str:
    """A condition in two sentences."""
    condition: Condition | None = CONDITIONS.get(name)
    if condition is None:
        return ""
    shown = " sees worked examples," if condition.demonstrations else ""
    return f"{_STUDENTS[condition.student]}{shown} {_MODES[condition.mode]}. {_READS[condition.reads]}".replace(
        "  ", " "
    )


def method_of(spec: Mapping[str, Any]) -> dict[str, str]:
    """Title, source and headline condition of the spec's method; its name alone where the registry lost it."""
    try:
        method = get_method(spec["method"])
    except UnknownMethod:
        return {"title": spec["method"], "source": "", "headline": ""}
    return {"title": method.title, "source": method.source, "headline": method.headline}


def headline_of(spec: Mapping[str, Any]) -> str:
    """The condition that stands for the spec's method."""
    return method_of(spec)["headline"]


def effort(part: Mapping[str, Any]) -> dict[str, float]:
    """What an answer takes under a condition: tokens read, tokens written, seconds; on average over its answers."""
    asked = part["n"] * part.get("samples", 1)
    return {key: part[key] / asked for key in ("prompt_tokens", "completion_tokens", "seconds")}


def rounds(stages: Stages) -> list[dict[str, Any]]:
    """What each round came to: hard cases, entries, and accuracy on the rows that were held out of training."""
    made = []
    for number in sorted({number for name, number in stages if name == "diagnose"}):
        diagnosed, validated = _manifest(stages, "diagnose", number), _manifest(stages, "validate", number)
        made.append(
            {
                "number": number,
                "hard": diagnosed["rows"] - diagnosed["correct"],
                "rows": diagnosed["rows"],
                "entries": _manifest(stages, "extract", number).get("entries", 0),
                "held_out": Cell.of(validated) if validated.get("n") else None,
                "gain": validated.get("gain"),
            }
        )
    return made


def contamination(evaluate: StageFolder) -> dict[str, Any]:
    """What the check of training rows and entries against test rows found, and that of the expert's file; empty where none was made."""
    if not evaluate.has("contamination.json"):
        return {}
    return {"expert": None, **json.loads(evaluate.read("contamination.json"))}


def learning(stages: Stages) -> Picture:
    """The learning curves of the trainings, one behind the other."""
    several = len({number for _, number in stages}) > 1
    series = {}
    for (name, number), folder in stages.items():
        if name.startswith("train-"):
            label = f"{name}, round {number}" if several and name != "train-general" else name
            series[label] = [(record["step"], record["loss"]) for record in read_jsonl(folder, "history.jsonl")]
    return picture(series)


def costs(stages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What each stage took, and the sums."""
    keys = ("seconds", "teacher_calls", "prompt_tokens", "completion_tokens", "cost_usd")
    rows = [
        {"name": s["name"], "reused_from": s.get("reused_from", ""), **{k: s.get(k) or 0 for k in keys}} for s in stages
    ]
    return {"rows": rows, "total": {k: sum(row[k] for row in rows) for k in keys}}


def read_jsonl(folder: StageFolder, name: str) -> list[dict[str, Any]]:
    """The objects of a JSONL file; none where it does not exist."""
    try:
        return folder.read_jsonl(name)
    except FileNotFoundError:
        return []


def _manifest(stages: Stages, name: str, number: int) -> dict[str, Any]:
    folder = stages.get((name, number))
    return (folder.manifest() if folder else None) or {}
