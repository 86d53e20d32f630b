"""Data files: one JSON object a line. Every mistake in one is told with the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterable
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
    for number, line in enumerate(_lines(content, file), 1):
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
        more = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        text = "; ".join(f"{place}: {sentence}" for place, sentence in problems[:_MOST_PROBLEMS])
        raise InvalidArgument(f"{text}{more}", reason=INVALID_DATA, violations=problems[:_MOST_PROBLEMS])
    if not rows:
        raise _invalid(f"{file}:1", "the file has no rows; it needs one JSON object a line")
    return rows


def _lines(content: bytes, file: str) -> Iterable[str]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _invalid(f"{file}:1", "the file is UTF-16; save it as UTF-8")
    try:
        # Only \n ends a line: JSON may hold other separators (U+2028) inside of a text.
        return content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _invalid(
            f"{file}:{line}", f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None


def _row(line: str) -> DataRow:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not a JSON object ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("not a JSON object (nested too deeply)") from None
    if not isinstance(record, dict):
        raise ValueError('not a JSON object; a row looks like {"id": ..., "task": ..., "question": ..., "answer": ...}')
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


def _invalid(place: str, sentence: str) -> InvalidArgument:
    return InvalidArgument(f"{place}: {sentence}", reason=INVALID_DATA, field=place)
