"""What a data set is to us: which files it consists of, and how one of its records becomes a question with an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from jobs.datasets import files


@dataclass(frozen=True)
class Item:
    """A record as we need it.

    Attributes:
        task: The family of the question.
        question: What the student is told; options stand in lines "(A) ...".
        answer: The gold answer alone; a letter in brackets where there are options.
        number: The record's own id; empty: its place in the file.
    """

    task: str
    question: str
    answer: str
    number: str = ""


@dataclass(frozen=True)
class Dataset:
    """A public data set in the form in which its makers published it.

    Attributes:
        name: Its name in a run spec.
        title: Its name for people.
        source: Where it is published.
        wanted: Which files of a folder belong to it, by their path from that folder's own name on.
        item: Makes an Item of a record; None leaves the record out (the data set's docstring says which), ValueError
            says what is wrong with it.
        task: The task of a file, by its path; "" where the records name their task. Two files of one task are two
            parts (train and test, or two versions), of which one must be named; so are one with "" and any other.
        part: What stands in the ids of a file's rows, so that those of training and test differ; "" where no task has both.
        records: Reads a file: header, and records with their lines.
    """

    name: str
    title: str
    source: str
    wanted: re.Pattern[str]
    item: Callable[[Any, File], Item | None]
    task: Callable[[str], str]
    part: Callable[[str], str] = lambda name: shardless(name)
    records: Callable[[files.Found], tuple[Mapping[str, Any], Iterator[files.Record]]] = files.records


@dataclass(frozen=True)
class File:
    """The file that a record stands in.

    Attributes:
        name: Its path inside of the folder that was given, or its name.
        task: Its task, or "".
        header: What the file says beside its records, where it is one JSON object.
    """

    name: str
    task: str
    header: Mapping[str, Any]


EXPORT = r"(?:-\d{5}-of-\d{5})?\.(?:jsonl|parquet)"
"""How the names of exports from the Hugging Face hub end: maybe the number of a shard, and the form."""


def stem(name: str) -> str:
    """A file's name without folders and ending."""
    return PurePosixPath(name).name.split(".", 1)[0]


def unsharded(name: str) -> str:
    """A file's path without the number of its shard ("a/train-00000-of-00002.jsonl" is "a/train.jsonl")."""
    return re.sub(r"-\d{5}-of-\d{5}(?=\.[^/]*$)", "", name)


def shardless(name: str) -> str:
    """A file's stem without the number of its shard ("train-00000-of-00002.jsonl" is "train")."""
    return stem(unsharded(name))


def has(record: Any, *names: str) -> bool:
    """Whether a record is an object with all of these fields."""
    return isinstance(record, Mapping) and all(name in record for name in names)


def text(record: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """A field that must be text.

    Args:
        record: What has the field.
        name: The field.
        empty: Whether there may be nothing in it.

    Raises:
        ValueError: It is something else, or empty.
    """
    value = record[name]
    if not isinstance(value, str):
        raise ValueError(f"{name!r} must be text, not {'null' if value is None else type(value).__name__}")
    if not value.strip() and not empty:
        raise ValueError(f"{name!r} is empty")
    return value.strip()


def texts(record: Mapping[str, Any], name: str) -> list[str]:
    """A field that must be a list of texts.

    Raises:
        ValueError: It is something else.
    """
    value = record[name]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name!r} must be a list of texts")
    return [one.strip() for one in value]


def unknown_form(record: Any, *wanted: str) -> ValueError:
    """The error about a record of a form that we do not know: what was found, what is wanted."""
    found = ", ".join(map(str, record)) or "none" if isinstance(record, Mapping) else f"a {type(record).__name__}"
    return ValueError(f"unknown form: found the fields {found:.300}; wanted {', or '.join(wanted)}")


def letter(index: int) -> str:
    """The letter of the option at a place: "(A)" for 0."""
    return f"({chr(ord('A') + index)})"


def with_options(question: str, options: Sequence[str]) -> str:
    """A question with its options, one a line.

    Raises:
        ValueError: There are fewer than two or more than 26.
    """
    if not 2 <= len(options) <= 26:
        raise ValueError(f"there are {len(options)} options; a question needs 2 to 26")
    # An option is one line, however its makers broke it; one without text must not look like a part of the next.
    lines = [f"{letter(number)} {' '.join(option.split()) or '(no text)'}" for number, option in enumerate(options)]
    return "\n".join([question.strip(), "Options:", *lines])


def gold_letter(label: str, count: int) -> str:
    """The letter in brackets that a label such as "B" means among so many options.

    Raises:
        ValueError: It is none of them.
    """
    index = ord(label) - ord("A") if len(label) == 1 else -1
    if not 0 <= index < count:
        raise ValueError(f"the answer {label!r:.40} is none of the {count} options")
    return letter(index)
