"""What prepare stores is what it said that it read, and it reads no more than fits."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.artifacts import Artifacts, StageFolder
from jobs.clients import is_away
from jobs.spec import parse
from jobs.stages import passages, prepare
from services.common.errors import InvalidArgument, Unavailable


def row(number: int) -> str:
    return json.dumps({"id": f"r{number}", "task": "count", "question": f"How many {number}?", "answer": "5"}) + "\n"


def test_a_file_without_an_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "MAX_BYTES", 100)
    (tmp_path / "most").write_bytes(b"x" * 100)
    assert len(prepare.read_file(str(tmp_path / "most"), "train")) == 100
    with pytest.raises(InvalidArgument, match="/dev/zero: the file is larger than 2 GiB"):
        prepare.read_file("/dev/zero", "train")


@pytest.mark.parametrize(
    ("stage", "field", "before", "after"),
    [
        (prepare, "train", row(1), row(2)),
        (prepare, "test", row(1), row(2)),
        (prepare, "expert", '{"text": "It is 5."}', '{"text": "It is 6."}'),
        (passages, "passages", "It is 5.", "It is 6."),
    ],
)
async def test_a_file_that_is_edited_while_it_is_read_is_not_stored_as_the_one_that_it_was(
    tmp_path: Path, stage: Any, field: str, before: str, after: str
) -> None:
    files = {"train": row(1), "test": row(2), field: before}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    spec = {"name": "r", "method": "zero-shot", "data": {name: str(tmp_path / name) for name in files}}
    artifacts = Artifacts(str(tmp_path / "store"))
    folder = StageFolder(artifacts, "prepare", "d")
    context: Any = SimpleNamespace(spec=parse(spec), folder=folder, artifacts=artifacts)
    context.relevant = stage.relevant(context)
    (tmp_path / field).write_text(after)
    with pytest.raises(Unavailable, match=f"data.{field}: the file was changed .*{tmp_path / field}") as told:
        await stage.run(context)
    # Tried again, and at last the run fails with a reason that tells what to do.
    assert is_away(told.value) and told.value.reason == "DATA_CHANGED"
    assert folder.files() == []
    context.relevant = stage.relevant(context)  # as the next attempt does
    await stage.run(context)
    assert folder.files()
