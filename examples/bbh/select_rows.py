"""Takes this folder's rows from the larger file: ``python -m examples.bbh.select_rows bbh.jsonl [--out FOLDER]``.

Six tasks with answers of several forms, 30 training and 12 test rows each, from the shorter half of each task so that a run
on a CPU is bearable. The choice depends on the rows' ids alone, not on whether the teacher was right.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

TASKS = (
    "boolean_expressions",
    "dyck_languages",
    "logical_deduction_three_objects",
    "object_counting",
    "reasoning_about_colored_objects",
    "sports_understanding",
)
TRAIN, TEST = 30, 12


def select(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Chooses training and test rows.

    Args:
        rows: Rows with task, id, question, answer and teacher_response.

    Returns:
        Training rows and test rows, by task and id.
    """
    train: list[dict[str, Any]] = []
    test: list[dict[str, Any]] = []
    for task in TASKS:
        own = [row for row in rows if row["task"] == task]
        # A question that comes twice would stand on both sides.
        own = list({row["question"]: row for row in own}.values())
        own.sort(key=lambda row: (len(row["question"]) + len(row["teacher_response"]), row["id"]))
        short = own[: max(TRAIN + TEST, len(own) // 2)]
        short.sort(key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())
        train += sorted(short[:TRAIN], key=lambda row: row["id"])
        test += sorted(short[TRAIN : TRAIN + TEST], key=lambda row: row["id"])
    return train, test


def _write(path: Path, rows: list[dict[str, Any]], fields: tuple[str, ...]) -> None:
    lines = [json.dumps({field: row[field] for field in fields}, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.bbh.select_rows", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args(arguments)
    rows = [json.loads(line) for line in options.source.read_text(encoding="utf-8").splitlines()]
    train, test = select(rows)
    _write(options.out / "train.jsonl", train, ("id", "task", "question", "answer"))
    _write(options.out / "test.jsonl", test, ("id", "task", "question", "answer"))
    _write(options.out / "recorded.jsonl", train + test, ("id", "task", "question", "teacher_response"))
    print(f"{options.out}: {len(train)} training rows, {len(test)} test rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
