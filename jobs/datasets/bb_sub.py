"""BB-sub: those tasks of BIG-bench whose folders (or files) are given, each with its ``task.json``.

A record has ``input`` and either ``target`` (text, or a list whose first is taken) or ``target_scores`` (option to score). Options
become lettered lines in an order that depends on their text alone, so that the place of the right one says nothing; records
with several best options are left out; where there are more than letters, the question stands without them. The file's ``task_prefix`` is put before each question, as BIG-bench does.
Exports have ``inputs``, ``targets``, ``multiple_choice_targets`` and ``multiple_choice_scores`` a line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from jobs.datasets.base import Dataset, File, Item, has, letter, stem, text, texts, unknown_form, with_options


def _item(record: Any, file: File) -> Item | None:
    prefix = file.header.get("task_prefix")
    before = f"{prefix.strip()}\n" if isinstance(prefix, str) and prefix.strip() else ""
    if has(record, "input", "target_scores"):
        scores = record["target_scores"]
        if not isinstance(scores, Mapping):
            raise ValueError("'target_scores' must be an object of option and score")
        return _choice(file.task, before + text(record, "input", empty=True), scores)
    if has(record, "input", "target"):
        return _open(file.task, before + text(record, "input", empty=True), record["target"], "target")
    if has(record, "inputs", "targets"):
        options = texts(record, "multiple_choice_targets") if has(record, "multiple_choice_targets") else []
        if not options:
            return _open(file.task, text(record, "inputs"), record["targets"], "targets")
        scores = record.get("multiple_choice_scores")
        if not isinstance(scores, list) or len(scores) != len(options):
            raise ValueError(
                "'multiple_choice_scores' must be a list with a score for each of 'multiple_choice_targets'"
            )
        # The export's inputs end with the options and a cue of its own.
        question = re.sub(r"(?:\n\s*choice: [^\n]*)+(?:\nA:)?\s*$", "", text(record, "inputs"))
        return _choice(file.task, question, dict(zip(options, scores, strict=True)))
    raise unknown_form(record, "input with target or target_scores", "inputs, targets, multiple_choice_targets")


def _open(task: str, question: str, target: Any, field: str) -> Item:
    first = target[0] if isinstance(target, list) and target else target
    if not isinstance(first, (str, int, float)) or not str(first).strip():
        raise ValueError(f"{field!r} must be text or a list that begins with one")
    return Item(task, question, str(first).strip())


def _choice(task: str, question: str, scores: Mapping[str, Any]) -> Item | None:
    if not all(isinstance(score, (int, float)) for score in scores.values()):
        raise ValueError("every option needs a number as its score")
    if not scores:
        raise ValueError("'target_scores' has no option")
    best = max(scores.values())
    if list(scores.values()).count(best) > 1:
        return None
    if not 2 <= len(scores) <= 26:
        return _open(
            task, question, next((option for option in scores if scores[option] == best), None), "target_scores"
        )
    options = sorted(scores, key=lambda option: hashlib.sha256(f"{question}\n{option}".encode()).digest())
    right = next(number for number, option in enumerate(options) if scores[option] == best)
    return Item(task, with_options(question, options), letter(right))


def _task(name: str) -> str:
    """``strange_stories/multiple_choice/task.json`` is the task ``strange_stories:multiple_choice``."""
    path = PurePosixPath(name.removeprefix("bigbench/benchmark_tasks/"))
    return ":".join(path.parts[:-1]) or "task" if path.name == "task.json" else stem(name)


DATASET = Dataset(
    name="bb-sub",
    title="BIG-bench, a subset",
    source="https://github.com/google/BIG-bench",
    wanted=re.compile(r"(?:.*/)?task\.json|[^/]*/[^/]+\.jsonl?"),
    item=_item,
    task=_task,
    part=lambda name: "",
)
