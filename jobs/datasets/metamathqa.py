"""MetaMathQA: ``MetaMathQA-395K.json``, a list of ``query``, ``response``, ``type`` and ``original_question``.

The answer stands behind the last "The answer is:" of the response. Tasks: ``gsm`` and ``math``, by the first part of ``type``.
Records whose response does not say an answer are left out.
"""

from __future__ import annotations

import re
from typing import Any

from jobs.datasets.base import Dataset, File, Item, has, text, unknown_form


def _item(record: Any, file: File) -> Item | None:
    if not has(record, "query", "response", "type"):
        raise unknown_form(record, "query, response, type")
    half = text(record, "type").partition("_")[0].casefold()
    if half not in ("gsm", "math"):
        raise ValueError(f"'type' must begin with GSM_ or MATH_, not {text(record, 'type')!r:.40}")
    answer = text(record, "response", empty=True).rpartition("The answer is:")
    return Item(half, text(record, "query"), answer[2].strip()) if answer[1] and answer[2].strip() else None


DATASET = Dataset(
    name="metamathqa",
    title="MetaMathQA",
    source="https://huggingface.co/datasets/meta-math/MetaMathQA",
    wanted=re.compile(r"(?:.*/)?(?:MetaMathQA[^/]*|train(?:-\d{5}-of-\d{5})?)\.jsonl?"),
    item=_item,
    task=lambda name: "",
    part=lambda name: "",
)
