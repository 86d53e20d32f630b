"""`nesycd data`: rows of one's own files and of public data sets, and what is wrong with rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from jobs import rows


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["data", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def own_file(count: int = 10) -> None:
    lines = [f'"How many legs do {n} crabs have?",{10 * n},x{n}' for n in range(1, count + 1)]
    Path("questions.csv").write_text("\n".join(["question,answer,remark", *lines]))


def test_a_csv_becomes_training_and_test_rows_that_a_run_accepts() -> None:
    own_file()
    result = invoke("convert", "questions.csv", "--out", "train.jsonl", "--split", "0.2", "--test-out", "test.jsonl")
    assert result.exit_code == 0
    assert "Columns that were guessed: question = 'question', answer = 'answer'" in result.stderr
    assert "Columns that are not used: remark" in result.stderr
    assert "train.jsonl: 8 rows, 1 task\n" in result.stderr and "test.jsonl: 2 rows, 1 task\n" in result.stderr
    made = [rows.parse(Path(name).read_bytes(), name) for name in ("train.jsonl", "test.jsonl")]
    assert [len(part) for part in made] == [8, 2]
    assert made[0][0].row.task == "questions"
    assert invoke("check", "train.jsonl", "test.jsonl").exit_code == 0


def test_what_is_no_file_is_written_to_and_never_replaced() -> None:
    own_file(1)
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert invoke("convert", "questions.csv", "--out", "pipe").exit_code == 0
    assert json.loads(os.read(reader, 1000))["answer"] == "10" and Path("pipe").is_fifo()
    os.close(reader)


def test_options_in_columns_are_told_as_used() -> None:
    Path("questions.csv").write_text("question,A,B,C,why,answer\nWho?,owl,cat,dog,x,B\n")
    result = invoke("convert", "questions.csv", "--out", "-")
    assert json.loads(result.stdout)["question"] == "Who?\nOptions:\n(A) owl\n(B) cat\n(C) dog"
    assert "options = 'A,B,C'" in result.stderr and "Columns that are not used: why\n" in result.stderr
    result = invoke("convert", "questions.csv", "--out", "-", "--options", "A,B")
    assert json.loads(result.stdout)["question"] == "Who?\nOptions:\n(A) owl\n(B) cat"
    assert "Columns that are not used: C, why\n" in result.stderr


def test_a_public_data_set_is_converted_by_name() -> None:
    Path("bbh").mkdir()
    Path("bbh/navigate.json").write_text(
        json.dumps({"examples": [{"input": str(n), "target": "Yes"} for n in range(9)]})
    )
    Path("bbh/snarks.json").write_text(json.dumps({"examples": [{"input": "q", "target": "(A)"}]}))
    result = invoke("convert", "bbh", "--dataset", "bbh", "--out", "rows.jsonl", "--limit", "3", "--json")
    assert json.loads(result.stdout) == {"files": {"rows.jsonl": 3}, "columns": None}
    result = invoke("convert", "bbh", "--dataset", "bbh", "--tasks", "snarks", "--out", "-")
    assert json.loads(result.stdout) == {
        "id": "bbh/snarks/0", "task": "snarks", "question": "q", "answer": "(A)", "dataset": "bbh",
    }  # fmt: skip
    assert (
        "there is no task 'other'"
        in invoke("convert", "bbh", "--dataset", "bbh", "--tasks", "other", "--out", "-").stderr
    )


def test_tasks_are_described_in_lines_for_a_spec() -> None:
    Path("bbh").mkdir()
    Path("bbh/snarks.json").write_text(json.dumps({"examples": [{"input": "q", "target": "(A)"}]}))
    result = invoke("convert", "bbh", "--dataset", "bbh", "--out", "rows.jsonl", "--describe")
    assert result.stdout == "task_descriptions:\n  snarks: Choose the sarcastic one of two statements.\n"


def test_the_form_of_a_file_of_ones_own_may_be_named() -> None:
    own_file()
    Path("questions.csv").rename("questions.txt")
    assert "not JSON" in invoke("convert", "questions.txt", "--out", "x").stderr
    assert invoke("convert", "questions.txt", "--dataset", "csv", "--out", "x").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("convert", "absent.csv", "--out", "x"), "absent.csv cannot be read"),
        (("convert", "questions.csv", "--out", "x", "--split", "0.2"), "--split and --test-out go together"),
        (("convert", "questions.csv", "--out", "x", "--split", "0.01", "--test-out", "y"), "one part would be empty"),
        (("convert", "questions.csv", "--out", "x", "--split", "0.5", "--test-out", "x"), "must be two files"),
        (("convert", "questions.csv", "--out", "questions.csv"), "is the input itself"),
        (("convert", "questions.csv", "--out", "x", "--question", "frage"), "there is no column 'frage'"),
        (
            ("convert", "questions.csv", "--out", "x", "--tasks", "frage"),
            "there is no task 'frage'; there are questions",
        ),
        (("convert", "questions.csv", "--out", "x", "--dataset", "bbh", "--id", "a"), "are for files of your own"),
        (("convert", "questions.csv", "--out", "no/such/folder/x"), "No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence_and_leaves_the_input_alone(
    arguments: tuple[str, ...], told: str
) -> None:
    own_file()
    before = Path("questions.csv").read_text()
    result = invoke(*arguments)
    assert result.exit_code == 1 and told in result.stderr and "Traceback" not in result.output
    assert Path("questions.csv").read_text() == before
    assert not Path("x").exists()


def test_a_check_tells_each_mistake_with_its_line_and_ends_with_one() -> None:
    Path("bad.jsonl").write_text('{"id": "1", "task": "t", "question": "q"}\n' * 12 + "no json\n")
    result = invoke("check", "bad.jsonl")
    assert result.exit_code == 1
    assert "bad.jsonl: a run would refuse this file" in result.stderr
    assert "bad.jsonl:1: the row has no 'answer'" in result.stderr and "and 3 more" in result.stderr


def test_a_check_counts_tasks_and_kinds_of_answers_and_finds_shared_questions() -> None:
    row = {"id": "1", "task": "legs", "question": "How many?", "answer": "30"}
    Path("train.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"id": "2", "answer": "yes"}))
    Path("test.jsonl").write_text(json.dumps(row | {"id": "9", "question": "how many?"}))
    result = invoke("check", "train.jsonl", "test.jsonl")
    assert result.exit_code == 0
    assert "train.jsonl: 2 rows, 1 task" in result.stdout and "number 1, boolean 1" in " ".join(result.stdout.split())
    assert "the same question has different answers" in result.stderr
    assert "1 questions of test.jsonl stand in train.jsonl too: 9" in result.stderr
    read = json.loads(invoke("check", "train.jsonl", "test.jsonl", "--json").stdout)
    assert read["files"]["train.jsonl"]["tasks"]["legs"]["answers"] == {"number": 1, "boolean": 1}
    assert read["shared"] == [{"files": ["train.jsonl", "test.jsonl"], "rows": ["9"]}] and read["refused"] == {}
