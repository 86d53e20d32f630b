"""docs/data.md and docs/your-data.md: their commands run, and their specs are specs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cli.main import main
from jobs.datasets import DATASETS
from jobs.spec import parse
from method.scoring import is_correct

DOCS = Path(__file__).resolve().parents[3] / "docs"
DATA, OWN = ((DOCS / name).read_text(encoding="utf-8") for name in ("data.md", "your-data.md"))


def blocks(text: str, language: str) -> list[str]:
    return [code for named, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M) if named == language]


@pytest.mark.parametrize("text", [*blocks(DATA, "yaml"), *blocks(OWN, "yaml")])
def test_a_spec_of_the_pages_is_valid(text: str) -> None:
    parse(yaml.safe_load(text))


def test_the_page_tells_how_many_outputs_hold_scoring_to_what_a_person_says() -> None:
    verdicts, said = (
        [json.loads(line) for line in (DOCS.parent / "tests/unit/method" / name).read_text("utf-8").splitlines()]
        for name in ("verdicts.jsonl", "said.jsonl")
    )
    real, made = sum("output" in row for row in verdicts), sum(len(row["right"]) + len(row["wrong"]) for row in said)
    assert f"{real:,} outputs of real models" in DATA and f"{made:,} made ones" in DATA


def test_the_spec_for_ones_own_data_has_ten_lines() -> None:
    (text,) = blocks(OWN, "yaml")
    assert len(text.splitlines()) == 10


def test_the_commands_that_make_and_check_rows_do_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"How many legs do {n} crabs have?,{10 * n}" for n in range(1, 21)]
    Path("mine").mkdir()
    Path("BIG-Bench-Hard/bbh").mkdir(parents=True)
    examples = [{"input": str(n), "target": "Yes"} for n in range(10)]
    Path("BIG-Bench-Hard/bbh/navigate.json").write_text(json.dumps({"examples": examples}))
    lines = [line for text in (OWN, DATA) for block in blocks(text, "") for line in block.splitlines()]
    ran = 0
    for line in lines:
        if not line.startswith("nesycd data "):
            continue
        header = "frage,antwort,thema" if "frage" in line else "question,answer"
        Path("questions.csv").write_text(
            "\n".join([header, *(f"{row},legs" if "frage" in line else row for row in rows)])
        )
        if "wahl1" in line:
            Path("questions.csv").write_text("question,wahl1,wahl2,wahl3,answer\nWho?,owl,cat,dog,owl\n")
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}: {result.output}"
        ran += 1
    assert ran >= 4
    assert Path("mine/test.jsonl").read_text().count("\n") == 4


def test_every_data_set_is_told_with_its_place() -> None:
    for name, dataset in DATASETS.items():
        assert f"`{name}`" in DATA and dataset.source in DATA


@pytest.mark.parametrize(
    ("said", "gold", "right"),
    [
        ("$1,000.00", "1000", True), ("2 1/2", "2.5", True), ("24 legs", "24", True), ("twenty-four", "24", True),
        ("3.5", "3", False), ("20 or 24", "24", False), ("20-24", "24", False), ("2,5", "2", False),
        ("option B", "(B)", True), ("b.", "(B)", True), ("(B) The owl", "(B)", True), ("(A) or (B)", "(B)", False),
        ("not (B)", "(B)", False), ("Yes, because it is", "yes", True), ("not valid", "invalid", True), ("true", "yes", False),
        ("yes and no", "yes", False), ("])}", "] ) }", True), ("a, b and c", "a b c", True), ("66 ft", "66 feet", True),
        ("The owl.", "owl", True), ("b a c", "a b c", False), ("66 meters", "66 feet", False), ("1,000", "1000", True),
    ],
)  # fmt: skip
def test_what_the_page_says_of_answers_is_so(said: str, gold: str, right: bool) -> None:
    assert is_correct(said, gold) is right
