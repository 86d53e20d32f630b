"""AGIEval, its eight English multiple-choice sets: one file a set, as in the folder ``data/v1`` or ``data/v1_1`` of its repository.

Lines with ``passage`` (or null), ``question``, ``options`` ("(A)...") and ``label``. Other sets of the folder are not read.
Exports have ``query`` (all in one text), ``choices`` and ``gold`` (a list with the right one's number from 0).
"""

from __future__ import annotations

import re
from typing import Any

from jobs.datasets.base import (
    EXPORT,
    Dataset,
    File,
    Item,
    gold_letter,
    has,
    letter,
    shardless,
    text,
    texts,
    unknown_form,
    with_options,
)

SETS = (
    "aqua-rat", "logiqa-en", "lsat-ar", "lsat-lr", "lsat-rc", "sat-en", "sat-en-without-passage", "sat-math",
)  # fmt: skip
_OPTION = re.compile(r"\s*\(([A-Z])\)\s*(.*)", re.DOTALL)
_ASKED = re.compile(r"\s*\n\s*A: Among A through [A-Z], the answer is\s*$")


def _item(record: Any, file: File) -> Item:
    if file.task not in SETS:
        raise ValueError(f"{file.name} is none of the sets {', '.join(SETS)}; name the file after its set")
    if has(record, "question", "options", "label"):
        options = _bare(texts(record, "options"))
        passage = record.get("passage") or ""
        if not isinstance(passage, str):
            raise ValueError(f"'passage' must be text or null, not {type(passage).__name__}")
        question = f"{passage.strip()}\n{text(record, 'question')}".strip()
        return Item(file.task, with_options(question, options), gold_letter(text(record, "label"), len(options)))
    if has(record, "query", "choices", "gold"):
        options, gold = _bare(texts(record, "choices")), record["gold"]
        right = gold[0] if isinstance(gold, list) and len(gold) == 1 else gold
        if not isinstance(right, int) or not 0 <= right < len(options):
            raise ValueError(f"'gold' must be a list with one number below {len(options)}")
        question, mark, _ = _ASKED.sub("", text(record, "query")).rpartition("Answer Choices:")
        if not mark:
            raise ValueError("'query' has no 'Answer Choices:'")
        passage, _, asked = question.rpartition("Q:")
        return Item(file.task, with_options(f"{passage.strip()}\n{asked.strip()}".strip(), options), letter(right))
    raise unknown_form(record, "passage, question, options, label", "query, choices, gold")


def _bare(options: list[str]) -> list[str]:
    """Options without the letters that stand before them.

    Raises:
        ValueError: An option has the letter of another place.
    """
    bare = []
    for place, option in enumerate(options):
        found = _OPTION.fullmatch(option)
        if found and found[1] != chr(ord("A") + place):
            raise ValueError(f"option {place + 1} has the letter ({found[1]})")
        bare.append(found[2] if found else option)
    return bare


def _task(name: str) -> str:
    return re.sub(r"^agieval-", "", shardless(name).replace("_", "-"))


DATASET = Dataset(
    name="agieval",
    title="AGIEval, English multiple choice",
    source="https://github.com/ruixiangcui/AGIEval",
    wanted=re.compile(rf"(?:.*/)?(?:agieval[-_])?(?:{'|'.join(one.replace('-', '[-_]') for one in SETS)}){EXPORT}"),
    item=_item,
    task=_task,
    part=lambda name: "",
)
