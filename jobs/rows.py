"""Data files: one JSON object a line. Every mistake in one is told with the file and the line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from method.prompts import Row
from services.common.errors import InvalidArgument, register_reason

INVALID_DATA = register_reason(
    "INVALID_DATA",
    "A data file is empty, has another encoding than UTF-8, or a row lacks a field or repeats an id.",
    "Correct the file at the line that the message names; nothing was written.",
)
_FIELDS = ("id", "task", "question", "answer")
_LONGEST = {"id": 256, "task": 64, "question": 32_768, "answer": 8_192}
_MOST_PROBLEMS = 10


@dataclass(frozen=True)
class DataRow:
    """A row of a data file.

    Attributes:
        row: Id, task, question and answer.
        attributes: Further fields, for instance ``facts``.
    """

    row: Row
    attributes: dict[str, str] = field(default_factory=dict)

    def dump(self) -> dict[str, str]:
        """The row as one flat object, as it stood in the file."""
        row = self.row
        return {"id": row.id, "task": row.task, "question": row.question, "answer": row.answer, **self.attributes}


def from_record(record: dict[str, Any]) -> DataRow:
    """The row of an object that `DataRow.dump` made."""
    return DataRow(Row(*(record[name] for name in _FIELDS)), {k: v for k, v in record.items() if k not in _FIELDS})


def parse(content: bytes, file: str) -> list[DataRow]:
    """Reads a data file.

    Args:
        content: Its bytes.
        file: Its name, for errors.

    Returns:
        Its rows in order, at least one.

    Raises:
        InvalidArgument: Reason INVALID_DATA; ``file:line`` and what is wrong there, at most ten of them.
    """
    problems: list[tuple[str, str]] = []
    rows: list[DataRow] = []
    seen: dict[str, int] = {}
    # Only \n ends a line: JSON may hold other separators (U+2028) inside of a text.
    for number, line in enumerate(decoded(content, file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _row(line)
            if row.row.id in seen:
                raise ValueError(
                    f"id {row.row.id!r} stands in line {seen[row.row.id]} already; every row needs an id of its own"
                )
        except ValueError as error:
            problems.append((f"{file}:{number}", str(error)))
            continue
        seen[row.row.id] = number
        rows.append(row)
    if problems:
        raise refusal(problems)
    if not rows:
        raise refusal([(f"{file}:1", "the file has no rows; it needs one JSON object a line")])
    return rows


def refusal(problems: list[tuple[str, str]], remedy: str = "") -> InvalidArgument:
    """The error that tells what is wrong with data: places (``file:line``) and sentences, ten of them at most, and what to do."""
    more = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
    text = "; ".join(f"{place}: {sentence}" for place, sentence in problems[:_MOST_PROBLEMS])
    after = f". {remedy}" if remedy else ""
    return InvalidArgument(f"{text}{more}{after}", reason=INVALID_DATA, violations=problems[:_MOST_PROBLEMS])


def decoded(content: bytes, file: str) -> str:
    """The text of a file.

    Raises:
        InvalidArgument: Reason INVALID_DATA; it is not UTF-8, told with the line.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refusal([(f"{file}:1", "the file is UTF-16; save it as UTF-8")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        sentence = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise refusal([(f"{file}:{line}", sentence)]) from None


def _row(line: str) -> DataRow:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not a JSON object ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("not a JSON object (nested too deeply)") from None
    if not isinstance(record, dict):
        raise ValueError('not a JSON object; a row looks like {"id": ..., "task": ..., "question": ..., "answer": ...}')
    return checked(record)


def checked(record: dict[str, Any]) -> DataRow:
    """Checks a row's fields: there, text, not empty, not too long.

    Raises:
        ValueError: Says which field is wrong, and how.
    """
    for name in _FIELDS:
        value = record.get(name)
        if value is None:
            raise ValueError(f"the row has no {name!r}")
        if not isinstance(value, str):
            raise ValueError(f"{name!r} must be text, not {type(value).__name__}; put it in quotes")
        if not value.strip():
            raise ValueError(f"{name!r} is empty")
        if len(value) > _LONGEST[name]:
            raise ValueError(f"{name!r} has {len(value)} characters; at most {_LONGEST[name]} are allowed")
    for name, value in record.items():
        if not isinstance(value, str):
            raise ValueError(f"{name!r} must be text, not {type(value).__name__}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{name!r} holds half of a surrogate pair, which is no text") from None
    return from_record(record)
