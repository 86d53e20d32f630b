"""One's own files: which column is what, what is refused, and a split that keeps the same question on one side."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.datasets import check, table
from jobs.datasets.table import Columns, choose, read_table, split, to_rows
from jobs.rows import DataRow, from_record
from services.common.errors import InvalidArgument


def read(path: Path, columns: Columns = Columns(), task_name: str = "", form: str = "") -> list[DataRow]:
    own = read_table(str(path), form)
    return to_rows(own, choose(own, columns), task_name)


def row(row_id: str, question: str, answer: str = "1", task: str = "t") -> DataRow:
    return from_record({"id": row_id, "task": task, "question": question, "answer": answer})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv", "question,answer,topic\nHow many?,30,legs\n"),
        ("q.csv", "\ufeffquestion;answer;topic\r\nHow many?;30;legs\r\n\r\n"),
        ("q.tsv", "question\tanswer\ttopic\nHow many?\t30\tlegs\n"),
        ("q.csv", 'Question,ANSWER,Topic\n"How many?","30",legs\n'),
        ("q.jsonl", '{"question": "How many?", "answer": 30, "topic": "legs"}\n'),
        ("q.json", '[\n {"question": "How many?", "answer": "30", "topic": "legs"}\n]\n'),
        ("q.csv", 'question, answer, topic\n"How many?", "30", "legs"\n'),
        ("q.csv", "question,answer,topic,,\nHow many?,30,legs,,,\n"),
        ("q.csv", 'question;answer;topic;"a note, with, commas\nin two lines"\nHow many?;30;legs;"x\ny"\n'),
        ("q.csv", "question,answer,topic,note\nHow many?,30,legs," + "x" * 200_000 + "\n"),
        ("q.jsonl", '\ufeff{"prompt": "How many?", "target": "30", "category": "legs"}\r\n'),
    ],
)
def test_columns_are_found_by_their_names_in_every_form(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert [item.dump() for item in read(tmp_path / name)] == [
        {"id": "q-0", "task": "legs", "question": "How many?", "answer": "30"}
    ]


def test_what_is_named_wins_and_the_form_may_be_named_too(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text('nr,answer,text,sol\n7,"no, not this",A question?,12\n')
    made = read(path, Columns(question="text", answer="sol", id="nr"), "sums", "csv")
    assert made[0].dump() == {"id": "7", "task": "sums", "question": "A question?", "answer": "12"}


def test_what_cannot_be_guessed_is_asked_for_with_the_columns_there_are(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("frage,antwort\nx,y\n")
    with pytest.raises(
        InvalidArgument, match=r"no column looks like the question; name it with --question COLUMN.*'frage', 'antwort'"
    ):
        read(path)
    with pytest.raises(InvalidArgument, match="there is no column 'Frage'; there are 'frage', 'antwort'"):
        read(path, Columns(question="Frage"))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("q.csv", "", "q.csv:1: the file is empty"),
        ("q.csv", "question,answer\n", "the file has no rows"),
        ("q.csv", "question,question\n", "q.csv:1: two columns have the name 'question'"),
        ("q.csv", "question,answer\na,b\nc,d,e\n", "q.csv:3: 3 cells, but 2 columns"),
        ("q.csv", "question,answer\na\n", "q.csv:2: there is no 'answer'"),
        ("q.csv", 'question,answer\n"a\nb",\n', "q.csv:2: 'answer' is empty"),
        ("q.jsonl", "", "q.jsonl:1: the file has no rows"),
        ("q.csv", 'question,answer\na,b\nc,"d\ne,f\n', "q.csv:3: not CSV (unexpected end of data); is a quote in this row left open"),
        ("q.csv", 'question,answer\n"a" and b,c\n', "q.csv:2: not CSV"),
        ("q.txt", "question,answer\na,b\n", "CSV in a file of another ending is read with --dataset csv"),
        ("q.jsonl", '{"question": "a", "answer": NaN}', "q.jsonl:1: there is no 'answer'"),
        ("q.json", '[{"id": 1, "question": "a", "answer": "b"}, {"id": 1, "question": "c", "answer": "d"}]', "q.json:1 (record 2): id '1' stands in line 1 already"),
        ("q.jsonl", "nonsense", "q.jsonl:1: not JSON"),
        ("q.jsonl", "[1]", "q.jsonl:1: not a JSON object"),
        ("q.jsonl", '{"question": "a", "answer": ["b"]}', "q.jsonl:1: 'answer' must be text or a number, not a list"),
        ("q.jsonl", '{"question": "a", "answer": "b"}\n\n{"question": "a"}', "q.jsonl:3: there is no 'answer'"),
        ("q.jsonl", '{"id": 1, "question": "a", "answer": "b"}\n{"id": 1, "question": "a", "answer": "b"}', "q.jsonl:2: id '1' stands in line 1 already"),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_file_and_line(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidArgument) as caught:
        read(tmp_path / name)
    assert told in str(caught.value) and caught.value.reason == "INVALID_DATA"


def test_a_file_that_is_not_utf8_is_told_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_bytes("question,answer\ngr\u00f6\u00dfe,1\n".encode("latin-1"))
    with pytest.raises(InvalidArgument, match=r"q\.csv:2: byte 0xf6 is not UTF-8"):
        read(tmp_path / "q.csv")


def csv_of(path: Path, *records: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return path


@pytest.mark.parametrize(
    ("options", "answer", "right"),
    [
        (["owl", "cat"], "cat", "(B)"),
        (["owl", "cat"], "B", "(B)"),
        (["owl", "cat"], "(b)", "(B)"),
        ({"text": ["owl", "cat"], "label": ["1", "2"]}, "2", "(B)"),
        ([10, 20], "20", "(B)"),
        ([3, 2], "2", "(B)"),
        ({"A": "owl", "B": "cat"}, "B", "(B)"),
        ({"1": "2", "2": "3"}, 2, "(B)"),
        ([{"label": "A", "text": "owl"}, {"label": "B", "text": "cat"}], "cat", "(B)"),
        (["A) owl", "B) cat"], "cat", "(B)"),
        (["(A)owl", "(B)cat"], "(B)cat", "(B)"),
        ("A) owl; B) cat", "B", "(B)"),
        ("A. owl\nB. cat", "cat", "(B)"),
        ("(A) owl (B) cat", "(B)", "(B)"),
        ("a) the B. movie, a) b) cat", "b", None),
        ("owl\ncat", "cat", "(B)"),
        ('["owl", "cat"]', "cat", "(B)"),
        ("['owl', 'cat']", "cat", "(B)"),
    ],
)
def test_options_become_lines_with_letters(tmp_path: Path, options: object, answer: object, right: str | None) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question": "Who?", "choices": options, "answer": answer}))
    if right is None:
        with pytest.raises(InvalidArgument, match="must be a list of texts, or text such as"):
            read(path)
        return
    made = read(path)[0].row
    assert made.answer == right and made.question.startswith("Who?\nOptions:\n(A) ")
    assert "A)" not in made.question.replace("(A) ", "", 1) and made.question.count("\n") == 3


@pytest.mark.parametrize("names", ["ABC", ["option_a", "option_b", "option_c"], ["Choice 1", "Choice 2", "Choice 3"]])
@pytest.mark.parametrize("named", [False, True])
def test_a_column_for_each_option_is_found_or_named(tmp_path: Path, names: list[str], named: bool) -> None:
    cells = [("owl", "cat", "dog", "cat"), ("owl", "cat", "", names[1]), ("", "", "", "an owl"), ("x", "y", "z", "B")]
    path = csv_of(
        tmp_path / "q.csv",
        *({"question": f"Who {n}?"} | dict(zip([*names, "answer"], row, strict=True)) for n, row in enumerate(cells)),
    )
    made = read(path, Columns(options=", ".join(names)) if named else Columns())
    assert [item.row.question for item in made[:3]] == [
        "Who 0?\nOptions:\n(A) owl\n(B) cat\n(C) dog", "Who 1?\nOptions:\n(A) owl\n(B) cat", "Who 2?",
    ]  # fmt: skip
    assert [item.row.answer for item in made] == ["(B)", "(B)", "an owl", "(B)"]


def test_a_column_that_is_named_and_not_there_is_told_and_so_is_a_gap_in_the_options(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "q.csv", {"question": "Who?", "A": "owl", "B": "", "C": "cat", "answer": "C"})
    with pytest.raises(InvalidArgument, match="there is no column 'D'; there are 'question', 'A'"):
        read(path, Columns(options="A,B,C,D"))
    with pytest.raises(InvalidArgument, match=r"q\.csv:2: 'B' is empty, but 'C' is not"):
        read(path)


def test_a_field_that_the_first_record_lacks_is_a_column_too(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    first, second = {"question": "q", "answer": "1"}, {"question": "q", "answer": "B", "options": ["x", "y"]}
    path.write_text(json.dumps(first) + "\n" + json.dumps(second))
    assert read(path)[1].row.question == "q\nOptions:\n(A) x\n(B) y"


def test_parquet_of_ones_own_is_read_too(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([{"question": "Who?", "answer": "cat", "choices": ["owl", "cat"], "n": None}])
    pyarrow.parquet.write_table(table, tmp_path / "q.parquet")
    assert read(tmp_path / "q.parquet")[0].row.answer == "(B)"


@pytest.mark.parametrize(
    ("choices", "answer", "told"),
    [
        (["owl", "cat"], "dog", "the answer 'dog' is neither the letter nor the text"),
        (["owl", "cat"], 1, "the answer '1' is neither the letter nor the text of one of the 2 options; a number is not taken"),
        (["B", "A"], "B", r"the answer 'B' may mean \(A\) or \(B\)"),
        (["owl", "owl"], "owl", r"the answer 'owl' may mean \(A\) or \(B\)"),
        (["owl"], "owl", "there are 1 options"),
        (["owl", None], "owl", "must be a list of texts"),
        ("owl|cat", "owl", "with a column for each option: --options A,B,C"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_of_the_options_or_two_is_told(
    tmp_path: Path, choices: object, answer: object, told: str
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question": "Who?", "choices": choices, "answer": answer}))
    with pytest.raises(InvalidArgument, match=told):
        read(path)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xy")), max_size=60),
    st.floats(0.05, 0.9),
    st.integers(0, 9),
)
def test_a_split_loses_nothing_and_no_question_stands_on_both_sides(
    pairs: list[tuple[str, str]], share: float, seed: int
) -> None:
    items = [
        row(str(n), f" {question.upper() if n % 2 else question}", task=task)
        for n, (question, task) in enumerate(pairs)
    ]
    train, test = split(items, share, seed)
    assert sorted(i.row.id for i in (*train, *test)) == sorted(i.row.id for i in items)
    assert not check.shared_questions(train, test)
    assert split(items, share, seed) == (train, test)
    assert len(test) <= share * len(items) + 2


def test_a_split_takes_its_share_of_every_task_and_the_seed_decides_which() -> None:
    items = [row(f"{task}{n}", f"{task} {n}", task=task) for task in "ab" for n in range(50)]
    _, test = split(items, 0.2, 0)
    assert [sum(i.row.task == task for i in test) for task in "ab"] == [10, 10]
    assert split(items, 0.2, 1)[1] != test


def test_a_check_counts_and_warns_of_what_would_never_be_right() -> None:
    items = [
        row("1", "Who?\nOptions:\n(A) owl\n(B) cat", "(C)"),
        row("2", "How many?", "24"),
        row("3", "how  many?", "25"),
        row("4", "Why?", "word " * 30),
        row("5", "Sign?", "?"),
        row("6", "True?", "True", "other"),
    ]
    found = check.examine(items)
    assert dict(found.tasks["t"].answers) == {"choice": 1, "number": 2, "text": 2}
    assert found.tasks["t"].longest_id == "1" and found.tasks["other"].rows == 1
    assert found.repeated == [["2", "3"]]
    told = "\n".join(found.warnings)
    assert "1: the answer (C) is none of the options (A), (B)" in told
    assert "2, 3: the same question has different answers" in told
    assert "4: the answer has 149 characters" in told or "4: the answer has 150 characters" in told
    assert "6" not in told
    assert table.same_question(items[1]) == table.same_question(items[2])
