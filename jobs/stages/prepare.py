"""prepare: reads and checks the data, and that all that the run needs is there.

Output: ``train.jsonl`` and ``test.jsonl``, ``held_out.jsonl`` where training rows are set aside, ``expert.*`` where the spec
names one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

import fsspec
from nesycd.student.v1 import ListAdaptersRequest

from jobs import adapters, passages, rows
from jobs.artifacts import write_jsonl
from jobs.asking import shuffled
from jobs.context import Context
from jobs.datasets import load
from jobs.datasets.files import DATA_NOT_FOUND, MAX_BYTES
from jobs.rows import DataRow
from jobs.spec import Data, Source
from method.methods import get_method
from services.common.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
    register_reason,
)

# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, OWN, CODE = False, False, ("rows.py", "datasets")

BASE_MODEL_NOT_SERVED = register_reason(
    "BASE_MODEL_NOT_SERVED",
    "The student service serves another base model than the run spec names, so the run could not be evaluated with it.",
    "Serve it (`nesycd up --base-model NAME`, or NESYCD_STUDENT_BASE_MODEL), or correct student.base_model; then resume the run.",
)

DATA_CHANGED = register_reason(
    "DATA_CHANGED",
    "A data file that the run spec names was changed while it was read, at each attempt.",
    "Wait until nobody writes the file, then resume the run; or submit one that names a copy.",
)

CONTEXT_TOO_SHORT = register_reason(
    "CONTEXT_TOO_SHORT",
    "The base model's context is too short for answers as long as the run spec lets them be: they may take half of it.",
    "Lower evaluate.max_new_tokens to what the message names, or take a base model with a longer context.",
)


def relevant(context: Context) -> dict[str, Any]:
    spec = context.spec
    # What is wrong is told before anything is written or paid.
    _check_context(context)
    if "passages" in get_method(spec.method).stages:
        passages.parse(read_file(spec.data.passages, "passages"), spec.data.passages)
    if any(stage.startswith("train-") for stage in get_method(spec.method).stages):
        adapters.check_base_model(context)
    expert = {spec.data.expert: read_file(spec.data.expert, "expert")} if spec.data.expert else {}
    return {
        # Methods of one spec share these rows, whichever of them train.
        "data": {name: _digest(load_rows(spec.data, name)) for name in ("train", "test")},
        "expert": [[PurePosixPath(path).suffix, hashlib.sha256(content).hexdigest()] for path, content in expert.items()],
        "held_out": [spec.data.held_out, spec.seed] if spec.holds_out else [],
    }  # fmt: skip


async def run(context: Context) -> dict[str, Any]:
    # All is checked before anything is written.
    data, told = context.spec.data, context.relevant
    parts = {name: load_rows(data, name) for name in ("train", "test")}
    for name, items in parts.items():
        check_unchanged(data, name, _digest(items), told["data"][name])
    expert = expert_file(data.expert)
    if expert:
        content = _expert(data.expert)
        check_unchanged(data, "expert", hashlib.sha256(content).hexdigest(), told["expert"][0][1])
        context.folder.write(expert, content)
    asked = {_plain(item) for item in parts["train"]}
    shared = sum(_plain(item) in asked for item in parts["test"])
    if context.spec.holds_out:
        parts["train"], parts["held_out"] = set_aside(parts["train"], context.spec.data.held_out, context.spec.seed)
    for name, items in parts.items():
        context.folder.write(f"{name}.jsonl", write_jsonl(item.dump() for item in items))
    return {"rows": {name: len(items) for name, items in parts.items()}, "shared_questions": shared}


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    await _check_served(context)
    total, shared = sum(manifest["rows"].values()), manifest["shared_questions"]
    note = f"{shared} test questions are training questions too" if shared else ""
    context.progress(total, total, note=note, force=True)


def check_unchanged(data: Data, part: str, read: str, before: str) -> None:
    """What is stored is what the stage's digest tells: another run would take it for the file that it was.

    Args:
        data: Where the files are.
        part: The field of the file.
        read: Digest of what is to be stored.
        before: What `relevant` told.

    Raises:
        Unavailable: Reason DATA_CHANGED; they differ. The next attempt takes the file as it is then.
    """
    if read == before:
        return
    given = getattr(data, part)
    files = [one if isinstance(one, str) else one.path for one in ([given] if isinstance(given, str) else given)]
    raise Unavailable(
        f"data.{part}: the file was changed while it was read ({', '.join(files)}): wait until nobody writes it, "
        "then resume the run; or submit one that names a copy",
        reason=DATA_CHANGED,
    )


def _digest(items: Sequence[DataRow]) -> str:
    return hashlib.sha256(write_jsonl(item.dump() for item in items)).hexdigest()


def set_aside(items: Sequence[DataRow], share: float, seed: int) -> tuple[list[DataRow], list[DataRow]]:
    """Takes a share of the rows of each task away, decided by the seed; at least one row.

    Args:
        items: Training rows.
        share: 0 to 0.5.
        seed: Decides which.

    Returns:
        The rows that stay and those that are held out, both in their order.
    """
    by_task: dict[str, list[str]] = {}
    for item in items:
        by_task.setdefault(item.row.task, []).append(item.row.id)
    counts = {task: int(share * len(ids)) for task, ids in by_task.items()}
    missing = max(1, round(share * len(items))) - sum(counts.values()) if share else 0
    # What is missing to the share of all rows comes from the tasks that lost most by rounding.
    for task in sorted(by_task, key=lambda t: (counts[t] - share * len(by_task[t]), t))[:missing]:
        counts[task] += 1
    taken = {i for task, ids in by_task.items() for i in shuffled(ids, seed, f"held-out {task}")[: counts[task]]}
    return [i for i in items if i.row.id not in taken], [i for i in items if i.row.id in taken]


def _plain(item: DataRow) -> str:
    return " ".join(item.row.question.split()).casefold()


def _check_context(context: Context) -> None:
    """What the student would refuse when it is asked, which is after the teacher was paid.

    Raises:
        FailedPrecondition: Reason CONTEXT_TOO_SHORT.
    """
    name, wanted = context.spec.student.base_model, context.spec.evaluate.max_new_tokens
    length = context_length(context)
    if length and wanted > length // 2:  # a model that is elsewhere, or does not tell, is asked later
        raise FailedPrecondition(
            f"evaluate.max_new_tokens is {wanted}, but {name} has a context of {length} tokens and answers may take half of it: "
            f"set it to {length // 2} at most, or take another student.base_model",
            reason=CONTEXT_TOO_SHORT,
            subject="evaluate.max_new_tokens",
        )


def context_length(context: Context) -> int | None:
    """Tokens of the base model's context; None where the artifact store does not tell."""
    config = context.artifacts.read_json("models", context.spec.student.base_model, "config.json")
    length = config.get("max_position_embeddings") if isinstance(config, dict) else None
    return length if isinstance(length, int) else None


async def _check_served(context: Context) -> None:
    """Before anything is paid: the student that will answer must be the one that the spec names.

    Raises:
        FailedPrecondition: Reason BASE_MODEL_NOT_SERVED.
    """
    try:
        known = await context.services.call(
            context.services.student.ListAdapters, ListAdaptersRequest(page_size=1), what="student"
        )
    except Unimplemented:  # a student that does not tell
        return
    wanted = context.spec.student.base_model
    if known.base_model and known.base_model != wanted:
        raise FailedPrecondition(
            f"student.base_model: the student service serves {known.base_model!r}, not {wanted!r}: "
            f"start it with {wanted!r}, or correct the spec",
            reason=BASE_MODEL_NOT_SERVED,
            subject="student.base_model",
        )


def expert_file(path: str) -> str:
    """The name under which the expert's file is kept; "" where there is none."""
    return ("expert.md" if path.endswith((".md", ".markdown")) else "expert.jsonl") if path else ""


def _expert(path: str) -> bytes:
    content = read_file(path, "expert")
    if not rows.decoded(content, path).strip():
        raise rows.refusal([(f"{path}:1", "the file is empty")])
    return content


def load_rows(data: Data, part: Literal["train", "test"]) -> list[DataRow]:
    """The rows of a part from all of its sources, each with an id of its own.

    Raises:
        NotFound: Reason DATA_NOT_FOUND.
        InvalidArgument: Reason INVALID_DATA.
    """
    found: dict[str, DataRow] = {}
    for source in data.sources(part):
        for item in _rows(source, part):
            if item.row.id in found:
                raise rows.refusal([(source.path, f"id {item.row.id!r} stands in another source of data.{part} too")])
            found[item.row.id] = item
    return list(found.values())


def _rows(source: Source, part: str) -> list[DataRow]:
    if source == Source(path=source.path):
        return rows.parse(read_file(source.path, part), source.path)
    return load(source)


def read_file(path: str, part: str) -> bytes:
    """The bytes of a file that the spec names in data.<part>.

    Raises:
        NotFound: Reason DATA_NOT_FOUND.
        InvalidArgument: The path is of a protocol that is not known, or the file is larger than 2 GiB.
    """
    try:
        with fsspec.open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise NotFound(
            f"data.{part}: {path} cannot be read ({type(error).__name__}); it must be a file that the worker can open",
            reason=DATA_NOT_FOUND, resource_type="file", resource_name=path,
        ) from None  # fmt: skip
    except ValueError as error:  # an unknown protocol
        raise InvalidArgument(f"data.{part}: {path}: {error}", field=f"spec.data.{part}") from None
    if len(content) > MAX_BYTES:
        raise rows.refusal([(path, "the file is larger than 2 GiB; take a part of it")])
    return content
