"""prepare: reads and checks the data files, and that all that the run needs is there.

Output: ``train.jsonl`` and ``test.jsonl`` as they were, ``expert.*`` where the spec names one.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Any

import fsspec
from nesycd.student.v1 import ListAdaptersRequest

from jobs import adapters, rows
from jobs.artifacts import write_jsonl
from jobs.context import Context
from method.methods import get_method
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound, Unimplemented, register_reason

USES_TEACHER, OWN, CODE = False, False, ("rows.py",)

DATA_NOT_FOUND = register_reason(
    "DATA_NOT_FOUND",
    "A data file that the run spec names does not exist, or the worker may not read it.",
    "Correct the path in the spec; it is a path on the worker's machine, or a URL that fsspec opens.",
)
BASE_MODEL_NOT_SERVED = register_reason(
    "BASE_MODEL_NOT_SERVED",
    "The student service serves another base model than the run spec names, so the run could not be evaluated with it.",
    "Serve it (`nesycd up --base-model NAME`, or NESYCD_STUDENT_BASE_MODEL), or correct student.base_model; then resume the run.",
)


def relevant(context: Context) -> dict[str, Any]:
    contents = _read(context)
    return {
        "data": {name: [PurePosixPath(path).suffix, hashlib.sha256(content).hexdigest()] for name, (path, content) in contents.items()},
        "base_model": context.spec.student.base_model,
        "base_digest": _base_digest(context),
    }  # fmt: skip


async def run(context: Context) -> dict[str, Any]:
    contents = _read(context)
    # All is checked before anything is written.
    parsed = {name: rows.parse(contents[name][1], contents[name][0]) for name in ("train", "test")}
    expert = expert_file(context.spec.data.expert)
    if expert:
        text = contents["expert"][1]
        try:
            if not text.decode("utf-8").strip():
                raise InvalidArgument(
                    f"{expert}:1: the file is empty", reason=rows.INVALID_DATA, field="spec.data.expert"
                )
        except UnicodeDecodeError as error:
            line = text[: error.start].count(b"\n") + 1
            raise InvalidArgument(
                f"{context.spec.data.expert}:{line}: not UTF-8; save the file as UTF-8",
                reason=rows.INVALID_DATA, field="spec.data.expert",
            ) from None  # fmt: skip
        context.folder.write(expert, text)
    for name, items in parsed.items():
        context.folder.write(f"{name}.jsonl", write_jsonl(item.dump() for item in items))
    asked = {" ".join(item.row.question.split()).casefold() for item in parsed["train"]}
    shared = sum(" ".join(item.row.question.split()).casefold() in asked for item in parsed["test"])
    total = sum(map(len, parsed.values()))
    note = f"{shared} test questions are training questions too" if shared else ""
    context.progress(total, total, note=note, force=True)
    return {
        "rows": {name: len(items) for name, items in parsed.items()},
        "shared_questions": shared,
        "base_model": context.spec.student.base_model,
        "base_digest": _base_digest(context),
    }


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    await _check_served(context)
    total = sum(manifest["rows"].values())
    context.progress(total, total, force=True)


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


def _base_digest(context: Context) -> str:
    trains = any(stage.startswith("train-") for stage in get_method(context.spec.method).stages)
    return adapters.base_model_digest(context) if trains else ""


def _read(context: Context) -> dict[str, tuple[str, bytes]]:
    data = context.spec.data
    paths = {"train": data.train, "test": data.test, **({"expert": data.expert} if data.expert else {})}
    contents = {}
    for name, path in paths.items():
        try:
            with fsspec.open(path, "rb") as file:
                contents[name] = (path, file.read())
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise NotFound(
                f"data.{name}: {path} cannot be read ({type(error).__name__}); it must be a file that the worker can open",
                reason=DATA_NOT_FOUND,
                resource_type="file",
                resource_name=path,
            ) from None
        except ValueError as error:  # an unknown protocol
            raise InvalidArgument(f"data.{name}: {path}: {error}", field=f"spec.data.{name}") from None
    return contents
