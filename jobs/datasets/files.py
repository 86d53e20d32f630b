"""Reading the files of public data sets: found by name in a folder or bucket, read piece by piece, every record with its line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TextIO

import fsspec
from fsspec import AbstractFileSystem

from jobs import rows
from services.common.errors import InvalidArgument, NotFound, register_reason

DATA_NOT_FOUND = register_reason(
    "DATA_NOT_FOUND",
    "A data file that the run spec names does not exist, or the worker may not read it.",
    "Correct the path in the spec; it is a path on the worker's machine, or a URL that fsspec opens.",
)
MAX_FILES = 10_000
MAX_BYTES = 2 * 2**30
MAX_RECORD = 64 * 2**20
_CHUNK = 2**20
_BLANK = re.compile(r"[ \t\r\n]*")
_EXAMPLES = re.compile(r'"examples"\s*:\s*\[')

_OTHER_FORMS = {
    ".xlsx": "save it as CSV (UTF-8)",
    ".xls": "save it as CSV (UTF-8)",
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zip", ".tar", ".tgz", ".zst"), "unpack it first"),
}

Record = tuple[int, Any]
"""Line (in Parquet: number) and record; a ValueError in a record's place says what is wrong in that line."""


@dataclass(frozen=True)
class Found:
    """A file that belongs to a data set.

    Attributes:
        files: Where it lies.
        path: Its path there.
        shown: Its path as the user would write it.
        name: Its path inside of the folder that was given, or its name.
    """

    files: AbstractFileSystem
    path: str
    shown: str
    name: str

    def content(self) -> bytes:
        """All bytes of a text file.

        Raises:
            InvalidArgument: It is larger than 2 GiB, or Parquet.
            NotFound: It cannot be read.
        """
        if self.parquet:
            raise rows.refusal(
                [(self.shown, f"it is Parquet; make rows of it: nesycd data convert {self.shown} --out rows.jsonl")]
            )
        with _told(self.shown), self.files.open(self.path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise rows.refusal([(self.shown, "the file is larger than 2 GiB; take a part of it")])
        return content

    def open(self, newline: str = "\n") -> io.TextIOWrapper:
        """Opens it as text; a byte order mark is skipped.

        Raises:
            InvalidArgument: It is larger than 2 GiB, or UTF-16.
            NotFound: It cannot be read.
        """
        return io.TextIOWrapper(self.binary(), encoding="utf-8-sig", newline=newline)

    def binary(self) -> Any:
        """Opens it as bytes.

        Raises:
            InvalidArgument: It is larger than 2 GiB.
            NotFound: It cannot be read.
        """
        with _told(self.shown):
            file = self.files.open(self.path, "rb")
        if (getattr(file, "size", None) or 0) > MAX_BYTES:
            raise rows.refusal([(self.shown, "the file is larger than 2 GiB; take a part of it")])
        return file

    @property
    def parquet(self) -> bool:
        """Whether it is Parquet, by its name."""
        return self.path.casefold().endswith(".parquet")


def find(path: str, wanted: re.Pattern[str] | None = None) -> list[Found]:
    """The file at a path, or the files of the folder at it that are wanted, by name.

    Args:
        path: A local path or an fsspec URL.
        wanted: Which files of a folder count, by their path from the folder's own name on; None: a folder is refused.

    Raises:
        NotFound: Reason DATA_NOT_FOUND; there is no such file or folder.
        InvalidArgument: The protocol is unknown, or the folder has no such file or more than 10,000.
    """
    try:
        system, root = fsspec.url_to_fs(path)
        kind = system.info(root)["type"] if system.exists(root) else ""
    except (ValueError, ImportError) as error:
        raise InvalidArgument(f"{path}: {error}", field=path) from None
    except OSError as error:
        raise _not_found(path, error) from None
    if not kind:
        raise _not_found(path)
    if kind == "file":
        if remedy := _OTHER_FORMS.get(PurePosixPath(root).suffix.casefold()):
            raise rows.refusal([(path, f"a file of this form is not read; {remedy}")])
        return [Found(system, root, path, PurePosixPath(root).name)]
    if wanted is None:
        raise InvalidArgument(f"{path} is a folder; name a file", reason=rows.INVALID_DATA, field=path)
    with _told(path):
        inside = sorted(str(found) for found in system.find(root))
    names = [(found, str(PurePosixPath(found).relative_to(root))) for found in inside]
    # The folder's own name counts: it may be all that says which set a "test.jsonl" is of.
    folder = PurePosixPath(root).name
    taken = [
        Found(system, found, f"{path.rstrip('/')}/{name}", name)
        for found, name in names
        if wanted.fullmatch(f"{folder}/{name}")
    ]
    if len(taken) > MAX_FILES:
        raise rows.refusal([(path, f"the folder has {len(taken)} files; at most {MAX_FILES} are read")])
    if not taken:
        some = ", ".join(name for _, name in names[:5]) or "nothing"
        raise rows.refusal([(path, f"the folder has no file of this data set; it holds {some}; name the file itself")])
    return taken


def records(found: Found) -> tuple[Mapping[str, Any], Iterator[Record]]:
    """Reads Parquet, a JSON list, JSON lines, or one JSON object with a list "examples".

    Args:
        found: The file.

    Returns:
        What stands beside the examples, and the records in order.
    """
    if found.parquet:
        return {}, _parquet(found)
    with found.open() as file:
        first, _ = _first_sign(file)
        if first == "[":
            return {}, _json_list(found)
        if first == "{":
            file.seek(0)
            line = file.readline(MAX_RECORD)
            opening = _object(line)
            if opening is None or "examples" in opening:
                text = line + file.read(MAX_RECORD)
                whole = _object(text)
                if whole is not None and isinstance(whole.get("examples"), list):
                    header = {name: value for name, value in whole.items() if name != "examples"}
                    begin = _EXAMPLES.search(text)
                    at = begin.end() if begin else 0
                    return header, _elements(io.StringIO(text[at:]), text.count("\n", 0, at) + 1)
                if whole is not None:
                    return {}, iter([(1, whole)])
    return {}, _json_lines(found)


def placed(records: Iterator[Record]) -> Iterator[tuple[str, Any]]:
    """Records with the place where a person finds them: the line, and a record's number where several stand in one line."""
    before = 0
    for number, (line, record) in enumerate(records, 1):
        yield f"{line} (record {number})" if line == before else str(line), record
        before = line


def csv_records(found: Found) -> tuple[Mapping[str, Any], Iterator[Record]]:
    """Reads a CSV file without a header: each record is a list of texts."""
    return {}, _csv_lines(found)


def _csv_lines(found: Found) -> Iterator[Record]:
    with found.open(newline="") as file:
        reader = csv.reader(file)
        before = 0
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield before + 1, cells
                before = reader.line_num
        except csv.Error as error:
            yield reader.line_num, ValueError(f"not CSV ({error}); is a quote left open above?")


def _parquet(found: Found) -> Iterator[Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        sentence = "Parquet needs pyarrow, which is not installed here: install the extra 'parquet', or make rows of it elsewhere"
        raise rows.refusal([(found.shown, sentence)]) from None
    number = 0
    with found.binary() as file:
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(1000, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
        except (pyarrow.ArrowException, OSError) as error:
            yield number + 1, ValueError(f"not Parquet ({str(error).splitlines()[0]:.200})")


def _json_lines(found: Found) -> Iterator[Record]:
    with found.open() as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_RECORD), ""), 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    yield number, ValueError(f"not JSON ({error.msg} at column {error.colno})")
                except RecursionError:
                    yield number, ValueError("not JSON (nested too deeply)")


def _json_list(found: Found) -> Iterator[Record]:
    with found.open() as file:
        _, line = _first_sign(file)
        yield from _elements(file, line)


def _elements(file: TextIO, line: int) -> Iterator[Record]:
    """The elements of a JSON list whose bracket, in this line, has been read; only a piece of the file is held."""
    decoder = json.JSONDecoder()
    buffer, at, counted, ended = "", 0, 0, False
    while True:
        at = _blank(buffer, at)
        if buffer[at : at + 1] == ",":
            at = _blank(buffer, at + 1)
        if buffer[at : at + 1] == "]":
            return
        line, counted = line + buffer.count("\n", counted, at), at
        problem = "the list does not end"
        try:
            value, end = decoder.raw_decode(buffer, at)
            if end < len(buffer):  # a number at the end of the piece may go on in the next
                yield line, value
                at = end
                continue
        except json.JSONDecodeError as error:
            problem = f"not JSON ({error.msg})" if buffer[at:] else problem
        except RecursionError:
            problem, ended = "not JSON (nested too deeply)", True
        rest = buffer[at:]
        more = "" if ended or len(rest) > MAX_RECORD else file.read(max(_CHUNK, len(rest)))
        if not more:
            yield line, ValueError(problem)
            return
        buffer, at, counted = rest + more, 0, 0


def _blank(text: str, at: int) -> int:
    """Where blanks that begin at a place end."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _first_sign(file: TextIO) -> tuple[str, int]:
    """Reads up to the first sign that is no blank; returns it ("" at the end) and its line."""
    line = 1
    while (sign := file.read(1)) and sign in " \t\r\n":
        line += sign == "\n"
    return sign, line


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _told:
    """Turns an operating system's error about a file into one sentence about its path."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise _not_found(self._path, error) from None


def _not_found(path: str, error: OSError | None = None) -> NotFound:
    why = f" ({type(error).__name__})" if error else ""
    return NotFound(
        f"{path} cannot be read{why}; it must be a file or folder that the worker can open",
        reason=DATA_NOT_FOUND, resource_type="file", resource_name=path,
    )  # fmt: skip
