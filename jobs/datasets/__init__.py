"""Data sets by name: rows from the public files in the form in which they were published, or from our own.

A data set is one file here, with the value DATASET (or DATASETS). docs/data.md says where each is found.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobs import rows
from jobs.datasets import agieval, arc, bb_sub, bbh, files, gsm8k, gsm8k_plus, metamathqa, mmlu
from jobs.datasets.base import Dataset, File, Item, unsharded
from jobs.rows import DataRow
from jobs.spec import Source

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        bbh.DATASET, gsm8k.DATASET, metamathqa.DATASET, mmlu.DATASET,
        bb_sub.DATASET, agieval.DATASET, gsm8k_plus.DATASET, *arc.DATASETS,
    )
}  # fmt: skip
MAX_ROWS = 1_000_000
_MOST_PROBLEMS = 1000


def load(source: Source) -> list[DataRow]:
    """Reads the rows of a source.

    Args:
        source: Path, data set, tasks (none: all of them) and limit. With a limit the tasks take turns, so that each has its
            share; of a task the first rows are taken.

    Returns:
        Rows in the order of the files, at least one. Rows of a public data set have an id ``dataset/task/number`` and the
        attribute ``dataset``.

    Raises:
        NotFound: Reason DATA_NOT_FOUND.
        InvalidArgument: Reason INVALID_DATA; what is wrong, with file and line.
    """
    if source.dataset == "rows":
        found = files.find(source.path)[0]
        made: Iterator[DataRow] = iter(rows.parse(found.content(), source.path))
        known = set()
    else:
        dataset = DATASETS[source.dataset]
        located = files.find(source.path, dataset.wanted)
        _one_part(dataset, located, source)
        known = {dataset.task(one.name) for one in located} - {""}
        made = _rows(dataset, located, source)
    taken: list[DataRow] = []
    count: dict[str, int] = {}
    for row in made:
        known.add(row.row.task)
        if source.tasks and row.row.task not in source.tasks:
            continue
        count[row.row.task] = count.get(row.row.task, 0) + 1
        if not source.limit or count[row.row.task] <= source.limit:
            taken.append(row)
        if len(taken) > MAX_ROWS:
            raise rows.refusal([(source.path, f"more than {MAX_ROWS} rows; set a limit or name tasks")])
    missing = [task for task in source.tasks if task not in known]
    if missing:
        there = ", ".join(sorted(known)[:60])
        raise rows.refusal([(source.path, f"there is no task {', '.join(map(repr, missing))}; there are {there}")])
    if not taken:
        raise rows.refusal([(source.path, "there are no rows")])
    return limited(taken, source.limit) if source.limit else taken


def limited(taken: list[DataRow], limit: int) -> list[DataRow]:
    """At most so many rows; the tasks take turns, of a task the first rows are taken. The order stays."""
    turns: dict[str, int] = {}
    order = []
    for place, row in enumerate(taken):
        turn = turns[row.row.task] = turns.get(row.row.task, -1) + 1
        order.append((turn, place))
    return [taken[place] for place in sorted(place for _, place in sorted(order)[:limit])]


def _one_part(dataset: Dataset, located: list[files.Found], source: Source) -> None:
    """Two files of one task are never read as one: they are training and test, two versions, or the same twice.

    Raises:
        InvalidArgument: A folder holds several files of a task that are no shards of one, or one of any tasks beside others.
    """
    files_of: dict[str, dict[str, str]] = {}
    for found in located:
        files_of.setdefault(dataset.task(found.name), {}).setdefault(unsharded(found.name), found.name)
    if "" in files_of:  # its records name their tasks, which may be those of the other files
        files_of = {"": {part: name for several in files_of.values() for part, name in several.items()}}
    for several in files_of.values():
        if len(several) > 1:
            some = ", ".join(list(several.values())[:10]) + (", ..." if len(several) > 10 else "")
            sentence = f"the folder holds several parts of the data set ({some}); name one of them"
            raise rows.refusal([(source.path, sentence)])


def _rows(dataset: Dataset, located: list[files.Found], source: Source) -> Iterator[DataRow]:
    remedy = "A source is read as a whole or not at all: correct these records, or take them out of a copy of the file"
    if len({dataset.task(found.name) for found in located}) > 1:
        remedy += "; or name the other tasks with `tasks`"
    problems: list[tuple[str, str]] = []
    numbers: dict[tuple[str, str], int] = {}
    seen: dict[str, str] = {}
    for found in located:
        task, part = dataset.task(found.name), dataset.part(found.name)
        if source.tasks and task and task not in source.tasks:
            continue
        try:
            header, records = dataset.records(found)
            file = File(found.name, task, header)
            for line, record in files.placed(records):
                place = f"{found.shown}:{line}"
                number = numbers[task, part] = numbers.get((task, part), -1) + 1
                try:
                    if isinstance(record, ValueError):
                        raise record
                    item = dataset.item(record, file)
                    row = item and _row(dataset, item, f"{part}-{number}" if part else str(number))
                    if row and seen.setdefault(row.row.id, place) != place:
                        raise ValueError(f"{row.row.id!r} stands in {seen[row.row.id]} already")
                except ValueError as error:
                    problems.append((place, str(error)))
                    if len(problems) >= _MOST_PROBLEMS:
                        raise rows.refusal(problems, remedy) from None
                    continue
                if row and not problems:
                    yield row
        except UnicodeError:
            rows.decoded(found.content(), found.shown)
            raise
    if problems:
        raise rows.refusal(problems, remedy)


def _row(dataset: Dataset, item: Item, number: str) -> DataRow:
    record = {"id": f"{dataset.name}/{item.task}/{item.number or number}", "task": item.task}
    return rows.checked(record | {"question": item.question, "answer": item.answer, "dataset": dataset.name})
