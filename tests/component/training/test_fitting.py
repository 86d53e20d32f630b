"""Which entries a training row has room for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from jobs.adapters import fitting
from jobs.spec import parse
from method.prompts import Row
from tests.tiny import make_tiny_model

ROW = Row("1", "legs", "How many legs do 3 crabs have?", "24")
ENTRIES = ["Crabs have 8 legs.", "Spiders have 8 legs."]


def fit(folder: Path, rationale: str, **training: int) -> list[str]:
    make_tiny_model(folder)
    spec = parse(
        {
            "name": "n", "data": {"train": "a", "test": "b"}, "student": {"base_model": "tiny"}, "training": training,
            "evaluate": {"max_new_tokens": 1024},
        }
    )  # fmt: skip
    context = SimpleNamespace(spec=spec, artifacts=SimpleNamespace(local=lambda *_: folder))
    return list(fitting(context, [ROW], {ROW.id: rationale})(ROW.question, ENTRIES))  # type: ignore[arg-type]


def test_a_row_keeps_its_entries_though_an_answer_may_be_as_long_as_a_row(tmp_path: Path) -> None:
    assert fit(tmp_path / "tiny", "Crabs have 8 legs. 3 * 8 = 24.", max_length=1024) == ENTRIES


def test_entries_give_way_to_what_the_row_is_to_write(tmp_path: Path) -> None:
    assert fit(tmp_path / "tiny", "8 " * 2000, max_length=1024) == []
