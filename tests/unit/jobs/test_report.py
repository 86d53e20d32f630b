"""The report says what the stages' files say, safely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.report import Cell, helped_and_harmed, write_report


def answered(condition: str, right: list[bool], text: str = "so 3 x 8 = 24.") -> list[dict[str, Any]]:
    return [
        {
            "id": f"row-{i}", "task": "legs" if i % 2 else "units", "question": f"How many {i}?", "gold": "24",
            "answer": "24" if ok else "3", "text": text, "correct": ok, "facts": "held_out" if i > 2 else "seen",
            "entries": [] if condition == "general" else [{"name": "n", "text": "Spiders have 8 legs."}],
        }
        for i, ok in enumerate(right)
    ]  # fmt: skip


@pytest.fixture
def stages(tmp_path: Path) -> dict[str, Path]:
    evaluate, extract, train = (tmp_path / n for n in ("evaluate", "extract", "train-general"))
    for folder in (evaluate, extract, train):
        folder.mkdir()
    conditions = {
        "general": answered("general", [True, False, False, False]),
        "imported": answered("imported", [False, True, True, True], "<script>alert(1)</script> | 24"),
    }
    for condition, rows in conditions.items():
        (evaluate / f"answers.{condition}.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    (extract / "entries.jsonl").write_text(json.dumps({"kind": "ENTRY_KIND_FACT", "text": "x", "sources": [{}, {}]}))
    (train / "history.jsonl").write_text(
        json.dumps({"step": 1, "loss": 2.5}) + "\n" + json.dumps({"step": 2, "loss": 1.0})
    )
    return {"evaluate": evaluate, "extract": extract, "train-general": train}


RUN = {
    "name": "runs/r1", "adapter": "adapters/r1@1", "knowledge_base": "knowledgeBases/r1",
    "spec": {"method": "nesycd", "seed": 7, "training": {"recipe": "reader"}, "student": {"base_model": "tiny"}},
    "stages": [{"name": "rationalize", "seconds": 2.5, "teacher_calls": 40, "cost_usd": 0.0123}],
}  # fmt: skip


def test_both_forms_hold_accuracy_interval_n_money_and_the_entries_that_were_read(
    stages: dict[str, Path], tmp_path: Path
) -> None:
    write_report(RUN, stages, tmp_path)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "75%" in text and "25%" in text and "0.0123" in text and "Spiders have 8 legs." in text
        assert "1 fact" in text and "2 sources" in text
    assert not list(tmp_path.glob("*.part"))


def test_what_a_model_wrote_cannot_become_markup_of_the_page(stages: dict[str, Path], tmp_path: Path) -> None:
    write_report(RUN, stages, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_the_page_needs_no_other_file_and_no_network(stages: dict[str, Path], tmp_path: Path) -> None:
    write_report(RUN, stages, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page and "src=" not in page and "<link" not in page and "@import" not in page


def test_an_entry_helped_where_the_answer_is_right_only_with_it_and_harmed_where_only_without_it() -> None:
    rows = {"general": answered("general", [True, False]), "imported": answered("imported", [False, True])}
    [line] = helped_and_harmed(rows)
    assert (line["used"], line["helped"], line["harmed"]) == (2, 1, 1)


def test_no_rows_give_a_dash_and_not_a_number() -> None:
    assert str(Cell.of([])) == "-"
