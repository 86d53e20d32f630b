"""`nesycd data`: makes rows of one's own files and of public data sets, and says what is wrong with rows."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from cli.problems import Group, Problem
from jobs import rows
from jobs.datasets import DATASETS, check, files, limited, load, table
from jobs.datasets.descriptions import describe as about
from jobs.rows import DataRow
from jobs.spec import Source

out = Console()
err = Console(stderr=True)
_SHOWN = 20


@click.group(cls=Group)
def data() -> None:
    """Make data files for a run, and check them."""


@data.command()
@click.argument("source", metavar="INPUT")
@click.option("--out", "to", required=True, help="The file of rows to write; - for standard output.")
@click.option(
    "--dataset",
    type=click.Choice([*DATASETS, "csv", "jsonl"]),
    help="A public data set, or the form of a file of your own. Default: by INPUT's ending.",
)
@click.option("--question", default="", metavar="COLUMN", help="The column with the question.")
@click.option("--answer", default="", metavar="COLUMN", help="The column with the right answer.")
@click.option(
    "--id", "row_id", default="", metavar="COLUMN", help="The column with an id; rows are numbered without one."
)
@click.option("--task", default="", metavar="COLUMN", help="The column with the task.")
@click.option(
    "--options", default="", metavar="COLUMNS", help="The column with a list of options, or one for each: A,B,C,D."
)
@click.option("--task-name", default="", metavar="NAME", help="The task of all rows. Default: the file's name.")
@click.option("--tasks", default="", metavar="NAMES", help="Only these tasks, separated by commas.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many rows; tasks take turns.")
@click.option(
    "--split", "share", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Share of rows for --test-out."
)
@click.option("--test-out", help="The file for the rows that --split sets aside.")
@click.option("--seed", default=0, show_default=True, help="Decides which rows are set aside.")
@click.option("--describe", is_flag=True, help="Print a line about each task, to paste under `student` of a spec.")
@click.option("--json", "json_output", is_flag=True, help="Print JSON for a script.")
def convert(
    source: str, to: str, dataset: str | None, question: str, answer: str, row_id: str, task: str, options: str, task_name: str,
    tasks: str, limit: int | None, share: float | None, test_out: str | None, seed: int, describe: bool,
    json_output: bool,
) -> None:  # fmt: skip
    """Make rows of INPUT: your own CSV or JSON file, or a public data set as published.

    \b
    nesycd data convert questions.csv --out train.jsonl --split 0.2 --test-out test.jsonl
    nesycd data convert BIG-Bench-Hard/bbh --dataset bbh --out bbh.jsonl
    """
    if (share is None) != (test_out is None):
        raise Problem("--split and --test-out go together: a share, and a file for it")
    given = table.Columns(question, answer, row_id, task, options)
    wanted = [name.strip() for name in tasks.split(",") if name.strip()]
    if dataset in DATASETS:
        if given != table.Columns() or task_name:
            raise Problem("--question, --answer, --id, --task, --options and --task-name are for files of your own")
        items = load(Source(path=source, dataset=dataset, tasks=wanted, limit=limit or 0))  # type: ignore[arg-type]
        columns = None
    else:
        own = table.read_table(source, dataset or "")  # type: ignore[arg-type]
        columns = table.choose(own, given)
        _tell_columns(own, columns, given, task_name)
        items = _of_tasks(table.to_rows(own, columns, task_name), wanted, source)
        items = limited(items, limit) if limit else items
    parts: dict[str, Sequence[DataRow]] = {to: items}
    if share is not None and test_out is not None:
        if Path(to) == Path(test_out):
            raise Problem("--out and --test-out must be two files")
        parts[to], parts[test_out] = table.split(items, share, seed)
        if not parts[test_out] or not parts[to]:
            raise Problem(f"{len(items)} rows cannot be split: one part would be empty; change --split")
    for path, part in parts.items():
        _write(path, part, source)
    if json_output:
        made = {"files": {path: len(part) for path, part in parts.items()}, "columns": columns and vars(columns)}
        click.echo(json.dumps(made), err=to == "-")
        return
    for path, part in parts.items():
        count = len({item.row.task for item in part})
        _say(f"{path}: {len(part)} rows, {count} task{'s' if count > 1 else ''}")
    if describe:
        texts = {
            name: text for name in dict.fromkeys(i.row.task for i in items) if (text := about(dataset or "", name))
        }
        click.echo(yaml.safe_dump({"task_descriptions": texts}, sort_keys=False, width=1000), nl=False, err=to == "-")
    if to != "-":
        _say(f"Look at them with: nesycd data check {' '.join(parts)}")


@data.command("check")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True)
@click.option("--json", "json_output", is_flag=True, help="Print JSON for a script.")
def check_command(paths: tuple[str, ...], json_output: bool) -> None:
    """Say what is wrong with files of rows, and what is in them.

    With several files, also which questions they share. The exit status is 1 where a run would refuse a file.
    """
    read: dict[str, list[DataRow]] = {}
    refused: dict[str, list[str]] = {}
    for path in paths:
        try:
            read[path] = rows.parse(files.find(path)[0].content(), path)
        except rows.InvalidArgument as error:
            more = re.search(r"and \d+ more$", str(error))
            told = [f"{place}: {sentence}" for place, sentence in error.violations] or [str(error)]
            refused[path] = [*told, *([more[0]] if more else [])]
    found = {path: check.examine(items) for path, items in read.items()}
    shared = [
        {"files": [one, other], "rows": check.shared_questions(read[one], read[other])}
        for place, one in enumerate(read)
        for other in list(read)[place + 1 :]
    ]
    if json_output:
        click.echo(
            json.dumps(
                {"files": {path: _as_json(one) for path, one in found.items()}, "refused": refused, "shared": shared}
            )
        )
    else:
        for path in dict.fromkeys(paths):
            _print_refused(path, refused[path]) if path in refused else _print(path, found[path])
        for pair in shared:
            if pair["rows"]:
                one, other = pair["files"]
                _say(f"{len(pair['rows'])} questions of {other} stand in {one} too: {_some(pair['rows'])}", "yellow")
    if refused:
        sys.exit(1)


def _tell_columns(own: table.Table, columns: table.Columns, given: table.Columns, task_name: str) -> None:
    """Says what was guessed, so that a wrong guess is seen."""
    guessed = [f"{what} = {name!r}" for what, name in vars(columns).items() if name and not getattr(given, what)]
    if guessed:
        _say(f"Columns that were guessed: {', '.join(guessed)}")
    used = columns.used(own.columns)
    unused = [name for name in own.columns if name and name not in used]
    if unused:
        _say(f"Columns that are not used: {', '.join(unused[:30])}")
    if not columns.task and not task_name:
        _say("No column tells the task: all rows get the file's name (--task-name gives another)")


def _of_tasks(items: list[DataRow], wanted: list[str], source: str) -> list[DataRow]:
    there = {item.row.task for item in items}
    missing = [name for name in wanted if name not in there]
    if missing:
        raise Problem(
            f"{source}: there is no task {', '.join(map(repr, missing))}; there are {', '.join(sorted(there)[:60])}"
        )
    return [item for item in items if not wanted or item.row.task in wanted]


def _write(path: str, items: Sequence[DataRow], source: str) -> None:
    text = "".join(json.dumps(item.dump(), ensure_ascii=False) + "\n" for item in items)
    if path == "-":
        click.echo(text, nl=False)
        return
    target = Path(path)
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise Problem(f"{path} is the input itself; choose another file for --out")
    if target.exists() and not target.is_file():  # /dev/null is written to, not replaced
        target.write_text(text, encoding="utf-8")
        return
    part = target.with_name(f"{target.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, target)


def _print(path: str, found: check.Findings) -> None:
    total = sum(task.rows for task in found.tasks.values())
    out.print(
        f"{path}: {total} rows, {len(found.tasks)} task{'s' if len(found.tasks) != 1 else ''}",
        markup=False,
        highlight=False,
    )
    shown = Table("task", "rows", "answers", "longest question")
    for name, task in found.tasks.items():
        kinds = ", ".join(f"{kind} {count}" for kind, count in task.answers.most_common())
        shown.add_row(name, str(task.rows), kinds, f"{task.longest} characters ({task.longest_id})")
    out.print(shown)
    for warning in found.warnings[:_SHOWN]:
        _say(f"- {warning}", "yellow")
    if len(found.warnings) > _SHOWN:
        _say(f"- and {len(found.warnings) - _SHOWN} more", "yellow")
    if found.repeated:
        rest = sum(len(ids) - 1 for ids in found.repeated)
        _say(f"- {rest} rows repeat a question: {_some(found.repeated[0])} ...", "yellow")


def _print_refused(path: str, problems: list[str]) -> None:
    _say(f"{path}: a run would refuse this file", "red")
    for problem in problems:
        _say(f"- {problem}")


def _say(text: str, style: str = "") -> None:
    """Prints for people, as it is: no markup, no colours of rich's own, and lines are not broken."""
    err.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (" ..." if len(ids) > 5 else "")


def _as_json(found: check.Findings) -> dict[str, Any]:
    tasks = {
        name: {
            "rows": task.rows,
            "answers": dict(Counter(task.answers)),
            "longest_question": task.longest,
            "longest_id": task.longest_id,
        }
        for name, task in found.tasks.items()
    }
    return {"tasks": tasks, "warnings": found.warnings, "repeated": found.repeated}
