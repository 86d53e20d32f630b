"""The options of one's own multiple-choice questions, in the forms that people write, and which of them the answer means."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from jobs.datasets.base import letter, with_options

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MARK = re.compile(r"(?:(?<=[\s;,|/])|^)(\(?)([A-Za-z])([).:])\s*")


@dataclass(frozen=True)
class Option:
    """An option.

    Attributes:
        text: Its text.
        label: What the file calls it; "" where it says nothing.
        also: What else an answer may call it.
    """

    text: str
    label: str = ""
    also: tuple[str, ...] = ()


def absent(value: Any) -> bool:
    """Whether a cell is null, or no number (which is what null becomes in some exports)."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def one_each(names: Sequence[str]) -> list[str]:
    """Columns that look like one option each: A, B, C; or option_a, option_b; or Choice 1, Choice 2; [] where there are none."""
    bare = {re.sub(r"[^a-z0-9]", "", name.casefold()): name for name in reversed(names) if "," not in name}
    for before, signs, least in (
        ("", _LETTERS, 3),
        *((word, signs, 2) for word in ("option", "choice", "op") for signs in (_LETTERS, "123456789")),
    ):
        found = list(takewhile(bool, (bare.get(before + sign, "") for sign in signs)))
        if len(found) >= least:
            return found
    return []


def read_options(record: Mapping[str, Any], columns: Sequence[str]) -> list[Option]:
    """The options of a record.

    Args:
        record: The record.
        columns: None, one with all options, or one for each.

    Returns:
        The options; none where the cells are empty: an open question.

    Raises:
        ValueError: What stands there is no list of options.
    """
    if len(columns) > 1:
        cells = ["" if absent(record.get(name)) else str(record[name]).strip() for name in columns]
        while cells and not cells[-1]:
            cells.pop()
        if "" in cells:
            raise ValueError(f"{columns[cells.index('')]!r} is empty, but {columns[len(cells) - 1]!r} is not")
        # An answer may be the column's name, or what tells it from the others: "option_b", "b".
        same = sum(1 for _ in takewhile(lambda signs: len(set(signs)) == 1, zip(*columns, strict=False)))
        return [Option(cell, also=(name, name[same:])) for name, cell in zip(columns, cells, strict=False)]
    value = record.get(columns[0]) if columns else None
    if absent(value) or value == [] or (isinstance(value, str) and not value.strip()):
        return []
    return _bare(_listed(value, columns[0]))


def choose_option(question: str, options: Sequence[Option], answer: str) -> tuple[str, str]:
    """A question with its options in lines, and the letter of the one that the answer means.

    Raises:
        ValueError: It means none of them, or may mean two.
    """
    said = answer.strip("(). ").casefold()
    places = [place for place, option in enumerate(options) if option.label and option.label.casefold() == said]
    if not places:
        places = [
            place
            for place, option in enumerate(options)
            if answer in (option.text, *option.also)
            or said in (_LETTERS[place : place + 1], *map(str.casefold, option.also))
        ]
    if not places:
        why = "; a number is not taken for a place, which may count from 0 or from 1" if said.isdigit() else ""
        raise ValueError(
            f"the answer {answer!r:.60} is neither the letter nor the text of one of the {len(options)} options{why}"
        )
    if len(places) > 1:
        raise ValueError(
            f"the answer {answer!r:.60} may mean {' or '.join(map(letter, places))}: it is the letter or the text of both"
        )
    return with_options(question, [option.text for option in options]), letter(places[0])


def _listed(value: Any, column: str) -> list[Option]:
    """The options of a list, an object, or a text."""
    if isinstance(value, str):
        return _written(value.strip(), column)
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        labels = [str(label) for label in value.get("label", [])]
        return [
            Option(option.text, labels[place] if place < len(labels) else "")
            for place, option in enumerate(_listed(value["text"], column))
        ]
    if isinstance(value, Mapping) and all(map(_plain, value.values())):
        return [Option(str(text).strip(), str(label)) for label, text in value.items()]
    if isinstance(value, list) and all(isinstance(one, Mapping) and _plain(one.get("text")) for one in value):
        return [Option(str(one["text"]).strip(), str(one.get("label", ""))) for one in value]
    if isinstance(value, list) and all(map(_plain, value)):
        return [Option(str(one).strip()) for one in value]
    raise ValueError(
        f"{column!r} must be a list of texts, or text such as 'A) owl; B) cat'; with a column for each option: --options A,B,C"
    )


def _written(text: str, column: str) -> list[Option]:
    """The options of a text: a list as JSON or Python writes it, options with letters, or one in each line."""
    if text[:1] in "[{":
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(value, (list, Mapping)):
                return _listed(value, column)
    marks = [mark for mark in _MARK.finditer(text)]
    marks = [mark for mark in marks if (mark[1], mark[3]) == (marks[0][1], marks[0][3])]
    # Each letter once and in its turn: otherwise a letter inside of an option would be taken for the next.
    if (
        len(marks) > 1
        and not marks[0].start()
        and "".join(mark[2] for mark in marks).casefold() == _LETTERS[: len(marks)]
    ):
        ends = [*(mark.start() for mark in marks[1:]), len(text)]
        return [Option(text[mark.end() : end].strip(" \t\r\n;,|/")) for mark, end in zip(marks, ends, strict=True)]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return [Option(line) for line in lines]
    return _listed(None, column)


def _bare(options: list[Option]) -> list[Option]:
    """Options without the letters that stand before all of them."""
    marks = [_MARK.match(option.text) for option in options]
    if "".join(mark[2] if mark else "-" for mark in marks).casefold() != _LETTERS[: len(options)]:
        return options
    return [
        Option(option.text[mark.end() :].strip(), option.label, (option.text,))
        for option, mark in zip(options, marks, strict=True)
        if mark
    ]


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not absent(value)
