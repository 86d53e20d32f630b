"""Finished runs, as the stages leave them: their folders in an artifact store, and their records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.artifacts import Artifacts, StageFolder, digest_of
from jobs.figures import summarise
from jobs.spec import parse
from jobs.state import SUCCEEDED, RunRecord, StageRecord
from method.conditions import CONDITIONS
from method.methods import get_method

TASKS = ("legs", "units", "sports")
MADE: dict[str, dict[str, Any]] = {
    "prepare": {"rows": {"train": 90, "test": 60}, "shared_questions": 2},
    "rationalize": {"accepted": 85, "rejected": 5},
    "train-general": {"training": {"rows": 84, "dropped": 1}},
    "diagnose": {"rows": 90, "correct": 60, "answers": 90, "truncated": 0},
    "extract": {"entries": 33, "cases": 30, "failed_cases": 2},
    "train-augmented": {"training": {"rows": 85, "dropped": 0}},
}
"""What stages say of themselves."""
ENTRY = {"name": "knowledgeBases/kb/entries/1", "text": "Spiders have 8 legs."}


def answered(condition: str, right: Sequence[bool], **fields: Any) -> list[dict[str, Any]]:
    """Answers of the form that stage evaluate writes; row i is right where `right[i]` is."""
    reads = condition in CONDITIONS and bool(CONDITIONS[condition].reads)
    return [
        {
            "id": f"row-{i}", "task": TASKS[i % len(TASKS)], "question": f"How many legs have {i} spiders?", "gold": "24",
            "answer": "24" if ok else "3", "text": "so 3 x 8 = 24." if ok else "so 3.", "correct": ok, "seconds": 0.1,
            "prompt_tokens": 9, "completion_tokens": 3, "truncated": False, "facts": "held_out" if i > 2 else "seen",
            "entries": [ENTRY] if reads else [], **fields,
        }
        for i, ok in enumerate(right)
    ]  # fmt: skip


class Finished:
    """An artifact store with finished runs.

    Args:
        folder: Where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.artifacts = Artifacts(folder.as_uri())

    def spec(self, method: str = "nesycd", **fields: Any) -> dict[str, Any]:
        """A whole spec."""
        data = {"train": "train.jsonl", "test": "test.jsonl", "expert": "expert.jsonl"}
        if "passages" in get_method(method).stages:
            data["passages"] = "passages.jsonl"
        return parse({"name": "demo", "method": method, "data": data, **fields}).dump()

    def run(
        self, run_id: str, answers: Mapping[str, Sequence[Mapping[str, Any]]], *, shared: str = "", files: Mapping[str, Any] | None = None,
        **spec: Any,
    ) -> RunRecord:  # fmt: skip
        """Makes a finished run.

        Args:
            run_id: Its id.
            answers: The answers by condition.
            shared: The run that made all stages before evaluate; this one took them over.
            files: Further files, by "stage/name": a text, or a list of JSON objects.
            spec: Fields of its spec.
        """
        whole = self.spec(**spec)
        contents: dict[str, Any] = {f"evaluate/answers.{name}.jsonl": list(rows) for name, rows in answers.items()}
        summary = summarise(answers, {}, headline=get_method(whole["method"]).headline)
        contents |= {"evaluate/summary.json": json.dumps(summary), **(files or {})}
        stages = []
        for name, round_ in parse(whole).plan():
            own = name in ("evaluate", "publish") or not shared
            maker = run_id if own else shared
            folder = StageFolder(self.artifacts, name, digest_of([name, round_, maker]))
            for place, content in contents.items():
                stage, file = place.split("/", 1)
                if stage == name and isinstance(content, str):
                    folder.write(file, content.encode())
                elif stage == name:
                    folder.write_jsonl(file, content)
            if folder.manifest() is None:
                asks = name in ("rationalize", "extract")
                teacher = (
                    {"calls": 40, "prompt_tokens": 4000, "completion_tokens": 800, "cost_usd": 0.0123} if asks else {}
                )
                made = MADE.get(name, {})
                folder.complete({"run": maker, "round": round_, "seconds": 2.5, "teacher": teacher, **made})
            stages.append(StageRecord(name, round_, SUCCEEDED, seconds=2.5, reused=not own, digest=folder.digest))
        return RunRecord(id=run_id, spec=whole, state=SUCCEEDED, stages=stages, stage="publish", round=1)
