"""AI2 Reasoning Challenge, Easy and Challenge: ``ARC-Easy-Test.jsonl`` and its like.

Lines with ``id``, ``question`` (``stem`` and ``choices`` of ``text`` and ``label``) and ``answerKey``. Labels may be numbers; ours are
letters always. Exports have ``question`` as text and ``choices`` with lists ``text`` and ``label``.
"""

from __future__ import annotations

import re
from typing import Any

from jobs.datasets.base import (
    EXPORT,
    Dataset,
    File,
    Item,
    has,
    letter,
    shardless,
    text,
    texts,
    unknown_form,
    with_options,
)


def _item(record: Any, file: File) -> Item:
    if not has(record, "id", "question", "answerKey"):
        raise unknown_form(record, "id, question, answerKey")
    asked = record["question"]
    if has(asked, "stem", "choices") and isinstance(asked["choices"], list):
        if not all(has(choice, "text", "label") for choice in asked["choices"]):
            raise ValueError("every one of 'choices' needs 'text' and 'label'")
        question, options = text(asked, "stem"), [text(choice, "text", empty=True) for choice in asked["choices"]]
        labels = [text(choice, "label") for choice in asked["choices"]]
    elif isinstance(asked, str) and has(record.get("choices"), "text", "label"):
        question, options, labels = asked, texts(record["choices"], "text"), texts(record["choices"], "label")
    else:
        raise unknown_form(record, "question with stem and choices", "question, and choices with text and label")
    if len(labels) != len(options) or len(set(labels)) != len(labels):
        raise ValueError("every option needs a label of its own")
    key = text(record, "answerKey")
    if key not in labels:
        raise ValueError(f"the answer {key!r:.40} is none of the labels {', '.join(labels)}")
    return Item(file.task, with_options(question, options), letter(labels.index(key)), text(record, "id"))


def _dataset(name: str, title: str) -> Dataset:
    return Dataset(
        name=name,
        title=title,
        source="https://allenai.org/data/arc",
        # Exports have the names train, validation and test for both sets: there the folder must name the set.
        wanted=re.compile(
            rf"(?:.*/)?(?:{title}-(?:Train|Dev|Test)\.jsonl|{title}/(?:train|validation|test){EXPORT})",
            re.IGNORECASE,
        ),
        item=_item,
        task=lambda _: name,
        part=lambda file: shardless(file).casefold().removeprefix(f"{name}-"),
    )


DATASETS = (_dataset("arc-easy", "ARC-Easy"), _dataset("arc-challenge", "ARC-Challenge"))
