"""GSM8K: ``train.jsonl`` and ``test.jsonl``, lines with ``question`` and ``answer``; the number stands behind ``####``."""

from __future__ import annotations

import re
from typing import Any

from jobs.datasets.base import EXPORT, Dataset, File, Item, has, text, unknown_form


def _item(record: Any, file: File) -> Item:
    if not has(record, "question", "answer"):
        raise unknown_form(record, "question, answer")
    _, mark, answer = text(record, "answer").rpartition("####")
    if not mark:
        raise ValueError("'answer' has no '####' with the number behind it")
    return Item(file.task, text(record, "question"), answer.strip())


DATASET = Dataset(
    name="gsm8k",
    title="GSM8K",
    source="https://github.com/openai/grade-school-math",
    wanted=re.compile(rf"(?:.*/)?(?:train|test){EXPORT}"),
    item=_item,
    task=lambda name: "gsm8k",
)
