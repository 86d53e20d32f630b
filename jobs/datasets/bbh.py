"""BIG-Bench Hard: a folder with one JSON file a task, as in the folder ``bbh`` of its repository.

A file holds ``{"examples": [{"input": ..., "target": ...}]}``; exports have ``input`` and ``target`` a line. The inputs have
their options already ("Options:", then "(A) ..." in lines).
"""

from __future__ import annotations

import re
from typing import Any

from jobs.datasets.base import Dataset, File, Item, has, stem, text, unknown_form


def _item(record: Any, file: File) -> Item:
    if not has(record, "input", "target"):
        raise unknown_form(record, "input, target")
    return Item(file.task, text(record, "input"), text(record, "target"))


DATASET = Dataset(
    name="bbh",
    title="BIG-Bench Hard",
    source="https://github.com/suzgunmirac/BIG-Bench-Hard",
    wanted=re.compile(r"[^/]*/(?:bbh/)?[^/]+\.jsonl?"),
    item=_item,
    task=stem,
    part=lambda name: "",
)
