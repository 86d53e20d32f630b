"""The report says what the stages' files say, safely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.report import Cell, write_report
from jobs.stages.evaluate import summarise


def answered(condition: str, right: list[bool], text: str = "so 3 x 8 = 24.") -> list[dict[str, Any]]:
    return [
        {
            "id": f"row-{i}", "task": "legs" if i % 2 else "units", "question": f"How many {i}?", "gold": "24",
            "answer": "24" if ok else "3", "text": text, "correct": ok, "seconds": 0.1, "prompt_tokens": 9, "completion_tokens": 3, "facts": "held_out" if i > 2 else "seen",
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
    (evaluate / "summary.json").write_text(json.dumps(summarise(conditions, {})))
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


def test_every_figure_is_the_evaluations_own(stages: dict[str, Path], tmp_path: Path) -> None:
    file = stages["evaluate"] / "summary.json"
    summary = json.loads(file.read_text())
    summary["conditions"]["general"] |= {"accuracy": 0.41, "low": 0.12, "high": 0.93}
    summary["conditions"]["general"]["families"]["legs"] |= {"accuracy": 0.57}
    summary["conditions"]["imported"]["facts"]["held_out"] |= {"accuracy": 0.64}
    summary["comparisons"] = [
        {"a": "imported", "b": "general", "n": 4, "difference": 0.33, "low": 0.22, "high": 0.44, "p": 0.0123}
    ]
    summary["entries"] = [{"name": "n", "text": "Spiders have 8 legs.", "used": 71, "helped": 52, "harmed": 13}]
    file.write_text(json.dumps(summary))
    write_report(RUN, stages, tmp_path)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        for figure in ("41%", "12%", "93%", "57%", "64%", "33", "0.012", "71", "52", "13"):
            assert figure in text, (name, figure)


def test_no_rows_give_a_dash_and_not_a_number() -> None:
    assert str(Cell.of(None)) == "-"
