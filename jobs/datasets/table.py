"""One's own questions, from JSON lines, a JSON list or a CSV file with a header: which column is what, and the rows."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, Literal, TextIO

from jobs import rows
from jobs.datasets import files
from jobs.datasets.base import stem
from jobs.datasets.options import absent, choose_option, one_each, read_options
from jobs.rows import DataRow

_KNOWN_NAMES = {
    "question": ("question", "query", "prompt", "problem", "input", "instruction", "text"),
    "answer": (
        "answer",
        "gold",
        "target",
        "expected",
        "expected_answer",
        "correct_answer",
        "label",
        "output",
        "answerkey",
    ),
    "id": ("id", "_id", "uid", "key", "qid", "question_id", "example_id", "nr", "number"),
    "task": ("task", "category", "subject", "topic", "domain", "family"),
    "options": ("options", "choices"),
}
_DELIMITERS = (",", ";", "\t", "|")
_PEEKED = 1000  # records whose fields count as columns; the first may lack one that later ones have
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Columns:
    """Which column is what; "" where there is none.

    Attributes:
        question: The question.
        answer: The right answer.
        id: An id; without one, rows are numbered.
        task: The family of the question; without one, all rows are of one task.
        options: A column with a list of options, or a column for each option, separated by commas.
    """

    question: str = ""
    answer: str = ""
    id: str = ""
    task: str = ""
    options: str = ""

    def used(self, there: Sequence[str]) -> list[str]:
        """The names of all columns that are used, of those that there are."""
        return [self.question, self.answer, self.id, self.task, *self.option_columns(there)]

    def option_columns(self, there: Sequence[str]) -> list[str]:
        """The columns with options: none, one with all of them, or one for each."""
        if not self.options or self.options in there:
            return [self.options] if self.options else []
        return [name.strip() for name in self.options.split(",")]


@dataclass(frozen=True)
class Table:
    """A file of one's own.

    Attributes:
        found: The file.
        columns: The names of its columns: the header, or the fields of the first records.
        records: Reads the records with their lines; a ValueError in a record's place says what is wrong.
    """

    found: files.Found
    columns: list[str]
    records: Callable[[], Iterator[files.Record]]


def read_table(path: str, form: Literal["", "csv", "jsonl"] = "") -> Table:
    """Opens a file of one's own.

    Args:
        path: A local path or an fsspec URL.
        form: "csv" or "jsonl" (also a JSON list); "" goes by the file's ending: .csv and .tsv are CSV, .parquet is Parquet, all
            else is JSON.

    Raises:
        NotFound: Reason DATA_NOT_FOUND.
        InvalidArgument: Reason INVALID_DATA; it is empty, no text, or its header is wrong.
    """
    found = files.find(path)[0]
    try:
        if form == "csv" or (not form and found.name.casefold().endswith((".csv", ".tsv"))):
            header, delimiter = _header(found)
            return Table(found, header, lambda: _csv(found, header, delimiter))
        records = lambda: files.records(found)[1]  # noqa: E731
        peeked = list(islice(records(), _PEEKED)) or [(1, ValueError("the file has no rows"))]
    except UnicodeError:
        rows.decoded(found.content(), path)
        raise
    line, first = peeked[0]
    if not isinstance(first, Mapping):
        sentence = str(first) if isinstance(first, ValueError) else "not a JSON object with a field for each column"
        if sentence.startswith("not JSON"):
            sentence += "; CSV in a file of another ending is read with --dataset csv"
        raise rows.refusal([(f"{path}:{line}", sentence)])
    columns = dict.fromkeys(str(name) for _, record in peeked if isinstance(record, Mapping) for name in record)
    return Table(found, list(columns), records)


def choose(table: Table, given: Columns) -> Columns:
    """Adds what the names of the columns tell to what the user says.

    Raises:
        InvalidArgument: A column that is named is not there, or none looks like the question or the answer.
    """
    chosen: dict[str, str] = {}
    for field in fields(Columns):
        wanted = getattr(given, field.name)
        if wanted:
            named = given.option_columns(table.columns) if field.name == "options" else [wanted]
            for name in named:
                if name not in table.columns:
                    sentence = f"there is no column {name!r}; there are {_names(table)}"
                    raise rows.refusal([(table.found.shown, sentence)])
            chosen[field.name] = wanted
            continue
        taken = {*chosen.values(), *given.used(table.columns)}
        by_name = {name.strip().casefold(): name for name in reversed(table.columns) if name not in taken}
        chosen[field.name] = next((by_name[name] for name in _KNOWN_NAMES[field.name] if name in by_name), "")
        if field.name == "options" and not chosen["options"]:
            chosen["options"] = ",".join(one_each([name for name in table.columns if name not in taken]))
    for name in ("question", "answer"):
        if not chosen[name]:
            sentence = f"no column looks like the {name}; name it with --{name} COLUMN. The columns are {_names(table)}"
            raise rows.refusal([(table.found.shown, sentence)])
    return Columns(**chosen)


def to_rows(table: Table, columns: Columns, task_name: str = "") -> list[DataRow]:
    """Makes rows of a file's records.

    Args:
        table: The file.
        columns: From `choose`.
        task_name: The task of all rows where no column tells it; "" for the file's name.

    Raises:
        InvalidArgument: Reason INVALID_DATA; what is wrong, with file and line.
    """
    task_name = task_name or stem(table.found.name)
    made: list[DataRow] = []
    problems: list[tuple[str, str]] = []
    seen: dict[str, str] = {}
    option_columns = columns.option_columns(table.columns)
    try:
        for number, (line, record) in enumerate(files.placed(table.records())):
            try:
                if isinstance(record, ValueError):
                    raise record
                row = _row(record, columns, option_columns, task_name, f"{stem(table.found.name)}-{number}")
                if seen.setdefault(row.row.id, line) != line:
                    raise ValueError(
                        f"id {row.row.id!r} stands in line {seen[row.row.id]} already; name another column with --id"
                    )
            except ValueError as error:
                problems.append((f"{table.found.shown}:{line}", str(error)))
                continue
            made.append(row)
    except UnicodeError:
        rows.decoded(table.found.content(), table.found.shown)
        raise
    if problems:
        raise rows.refusal(problems)
    if not made:
        raise rows.refusal([(table.found.shown, "the file has no rows")])
    return made


def split(items: Sequence[DataRow], share: float, seed: int) -> tuple[list[DataRow], list[DataRow]]:
    """Sets a share of the rows of each task aside, by a rule that the question and the seed decide.

    Rows with the same question stay together, so that none stands on both sides.

    Returns:
        The rows that stay and those set aside, both in their order.
    """
    by_task: dict[str, dict[str, int]] = {}
    home: dict[str, str] = {}
    for item in items:
        key = same_question(item)
        counts = by_task.setdefault(home.setdefault(key, item.row.task), {})
        counts[key] = counts.get(key, 0) + 1
    aside: set[str] = set()
    for counts in by_task.values():
        wanted = round(share * sum(counts.values()))
        for key in sorted(counts, key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest()):
            if wanted >= counts[key]:
                aside.add(key)
                wanted -= counts[key]
    return [i for i in items if same_question(i) not in aside], [i for i in items if same_question(i) in aside]


def same_question(item: DataRow) -> str:
    """What two rows with the same question have in common: its words without regard to case and blanks."""
    return " ".join(item.row.question.split()).casefold()


def _row(record: Any, columns: Columns, option_columns: Sequence[str], task_name: str, number: str) -> DataRow:
    if not isinstance(record, Mapping):
        raise ValueError("not a JSON object with a field for each column")
    question, answer = _text(record, columns.question), _text(record, columns.answer)
    if options := read_options(record, option_columns):
        question, answer = choose_option(question, options, answer)
    return rows.checked(
        {
            "id": _text(record, columns.id) if columns.id else number,
            "task": _text(record, columns.task) if columns.task else task_name,
            "question": question,
            "answer": answer,
        }
    )


def _text(record: Mapping[str, Any], column: str) -> str:
    value = record.get(column)
    if absent(value):
        raise ValueError(f"there is no {column!r}")
    if isinstance(value, (Mapping, list)):
        raise ValueError(
            f"{column!r} must be text or a number, not {'an object' if isinstance(value, Mapping) else 'a list'}"
        )
    return str(value).strip()


def _header(found: files.Found) -> tuple[list[str], str]:
    with found.open(newline="") as file:
        # What stands in quotes is text: neither its delimiters nor its line ends count.
        line = next(iter(_QUOTED.sub("", file.read(files.MAX_RECORD)).splitlines()), "")
        delimiter = max(_DELIMITERS, key=line.count)
        file.seek(0)
        header = [cell.strip() for cell in next(_reader(file, delimiter), [])]
    if not any(header):
        raise rows.refusal([(f"{found.shown}:1", "the file is empty; its first line must name the columns")])
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise rows.refusal([(f"{found.shown}:1", f"two columns have the name {twice[0]!r}")])
    return header, delimiter


def _csv(found: files.Found, header: Sequence[str], delimiter: str) -> Iterator[files.Record]:
    with found.open(newline="") as file:
        reader = _reader(file, delimiter)
        before = 0
        try:
            for number, cells in enumerate(reader):
                line, before = before + 1, reader.line_num
                if number == 0 or not any(cell.strip() for cell in cells):
                    continue
                while len(cells) > len(header) and not cells[-1].strip():
                    cells.pop()
                if len(cells) > len(header):
                    yield (
                        line,
                        ValueError(
                            f"{len(cells)} cells, but {len(header)} columns; quote texts that hold {delimiter!r}"
                        ),
                    )
                else:
                    yield line, dict(zip(header, cells, strict=False))
        except csv.Error as error:
            yield (
                before + 1,
                ValueError(f"not CSV ({error}); is a quote in this row left open, or text behind a closing one?"),
            )


def _reader(file: TextIO, delimiter: str) -> Any:
    """Reads CSV strictly: otherwise a quote that is left open takes all further rows into its cell, and nobody is told."""
    csv.field_size_limit(files.MAX_RECORD)
    return csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)


def _names(table: Table) -> str:
    return ", ".join(repr(name) for name in table.columns[:30])
