"""GSM-Plus: GSM8K's test questions, each changed in eight ways; the way (``perturbation_type``) is the task.

Lines with ``question``, ``solution``, ``answer`` and ``perturbation_type``. Questions that were made unanswerable (critical
thinking) have "None" for an answer; they are left out, for there is no number to compare with.
"""

from __future__ import annotations

import re
from typing import Any

from jobs.datasets.base import EXPORT, Dataset, File, Item, has, text, unknown_form


def _item(record: Any, file: File) -> Item | None:
    if not has(record, "question", "answer", "perturbation_type"):
        raise unknown_form(record, "question, answer, perturbation_type")
    answer = record["answer"]
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        answer = str(answer)
    # Not a number: what some exports make of null.
    if answer is None or (isinstance(answer, str) and answer.strip().casefold() in ("none", "nan", "")):
        return None
    if not isinstance(answer, str):
        raise ValueError(f"'answer' must be text or a number, not {type(answer).__name__}")
    task = re.sub(r"[^a-z0-9]+", "_", text(record, "perturbation_type").casefold()).strip("_")
    return Item(task, text(record, "question"), answer.strip())


DATASET = Dataset(
    name="gsm8k-plus",
    title="GSM-Plus",
    source="https://github.com/qtli/GSM-Plus",
    wanted=re.compile(rf"(?:.*/)?[^/]*test(?:mini)?(?:\.json|{EXPORT})"),
    item=_item,
    task=lambda name: "",
)
