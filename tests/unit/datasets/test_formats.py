"""Each data set is read in the form in which its makers published it, and in that of its line-by-line exports."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.datasets import load
from jobs.rows import DataRow
from jobs.spec import Source
from method.scoring import is_correct
from method.values import options_of


def write(path: Path, content: Any) -> Path:
    """Writes text as it is, a list of records as lines, and anything else as one JSON value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(json.dumps(one) + "\n" for one in content)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2), encoding="utf-8")
    return path


def read(path: Path, dataset: str, **fields: Any) -> list[DataRow]:
    return load(Source(path=str(path), dataset=dataset, **fields))


def only(items: list[DataRow]) -> tuple[str, str, str, str]:
    assert len(items) == 1
    assert items[0].attributes == {"dataset": items[0].row.id.split("/")[0]}
    row = items[0].row
    return row.id, row.task, row.question, row.answer


# --- BIG-Bench Hard


def test_bbh_is_a_folder_of_tasks_whose_inputs_have_their_options(tmp_path: Path) -> None:
    asked = "Which is sarcastic?\nOptions:\n(A) Great, rain again.\n(B) It rains."
    write(tmp_path / "snarks.json", {"canary": "x", "examples": [{"input": asked, "target": "(A)"}]})
    write(
        tmp_path / "navigate.json",
        {"examples": [{"input": "Turn left.", "target": "No"}, {"input": "Stay.", "target": "Yes"}]},
    )
    write(tmp_path / "README.md", "about")
    items = read(tmp_path, "bbh")
    assert [item.row.id for item in items] == ["bbh/navigate/0", "bbh/navigate/1", "bbh/snarks/0"]
    assert items[2].row.question == asked and items[2].row.answer == "(A)"
    assert list(options_of(items[2].row.question)) == ["(A)", "(B)"]
    assert read(tmp_path / "snarks.json", "bbh") == [items[2]]
    assert read(tmp_path, "bbh", tasks=["snarks"]) == [items[2]]


def test_bbh_is_found_in_its_repository_and_read_from_lines(tmp_path: Path) -> None:
    write(tmp_path / "bbh" / "snarks.jsonl", [{"input": "a", "target": "(A)"}])
    write(tmp_path / "cot-prompts" / "snarks.json", {"other": 1})
    assert only(read(tmp_path, "bbh")) == ("bbh/snarks/0", "snarks", "a", "(A)")


# --- arithmetic


def test_gsm8k_takes_the_number_behind_the_hashes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "train.jsonl", [{"question": "How many clips?", "answer": "48/2 = <<48/2=24>>24\n#### 1,024"}]
    )
    assert only(read(path, "gsm8k")) == ("gsm8k/gsm8k/train-0", "gsm8k", "How many clips?", "1,024")


def test_gsm8k_test_and_training_questions_are_never_read_as_one(tmp_path: Path) -> None:
    for part in ("train", "test", "train_socratic"):
        write(tmp_path / f"{part}.jsonl", [{"question": "q", "answer": "#### 1"}])
    with pytest.raises(
        Exception, match=r"several parts of the data set \(test\.jsonl, train\.jsonl\); name one of them"
    ):
        read(tmp_path, "gsm8k")


def test_the_shards_of_an_export_are_one_part(tmp_path: Path) -> None:
    for shard in (0, 1):
        write(tmp_path / f"train-0000{shard}-of-00002.jsonl", [{"question": f"q{shard}", "answer": "#### 1"}])
    assert [item.row.id for item in read(tmp_path, "gsm8k")] == ["gsm8k/gsm8k/train-0", "gsm8k/gsm8k/train-1"]


def test_gsm_plus_has_a_task_for_each_kind_of_change_and_leaves_out_what_has_no_answer(tmp_path: Path) -> None:
    path = write(
        tmp_path / "gsmplus_test.jsonl",
        [
            {"question": "q1", "solution": "s", "answer": "16.5", "perturbation_type": "numerical substitution"},
            {"question": "q2", "solution": "s", "answer": "None", "perturbation_type": "critical thinking"},
            {"question": "q3", "solution": "s", "answer": None, "perturbation_type": "critical thinking"},
            {
                "question": "q4",
                "solution": "s",
                "answer": 7,
                "perturbation_type": "integer-decimal-fraction conversion",
            },
            {"question": "q5", "solution": "s", "answer": float("nan"), "perturbation_type": "critical thinking"},
        ],
    )
    items = read(path, "gsm8k-plus")
    assert [(i.row.task, i.row.answer) for i in items] == [
        ("numerical_substitution", "16.5"),
        ("integer_decimal_fraction_conversion", "7"),
    ]
    assert items[1].row.id == "gsm8k-plus/integer_decimal_fraction_conversion/gsmplus_test-3"


def test_metamathqa_takes_the_answer_behind_the_last_sentence_and_has_two_halves(tmp_path: Path) -> None:
    records = [
        {
            "query": "g?",
            "response": "So 5.\n#### 5\nThe answer is: 5",
            "type": "GSM_Rephrased",
            "original_question": "o",
        },
        {
            "query": "m?",
            "response": "The answer is: x. No. The answer is: \\frac{3}{4}",
            "type": "MATH_AnsAug",
            "original_question": "o",
        },
        {"query": "n?", "response": "No answer here", "type": "MATH_FOBAR", "original_question": "o"},
    ]
    path = tmp_path / "MetaMathQA-395K.json"
    path.write_text(json.dumps(records, indent=4))
    items = read(tmp_path, "metamathqa")
    assert [(i.row.id, i.row.answer) for i in items] == [
        ("metamathqa/gsm/0", "5"),
        ("metamathqa/math/1", "\\frac{3}{4}"),
    ]
    assert is_correct("3/4", items[1].row.answer)
    assert [i.row.id for i in read(path, "metamathqa", tasks=["math"])] == ["metamathqa/math/1"]


# --- multiple choice


def test_mmlu_is_a_folder_of_csv_files_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "dev" / "college_physics_dev.csv"
    path.parent.mkdir()
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([['A "rod",\nof length 2', "1 kg", "2 kg", "3\nkg", "None of the above", "C"], []])
    assert only(read(tmp_path / "dev", "mmlu")) == (
        "mmlu/college_physics/dev-0",
        "college_physics",
        'A "rod",\nof length 2\nOptions:\n(A) 1 kg\n(B) 2 kg\n(C) 3 kg\n(D) None of the above',
        "(C)",
    )


def test_mmlu_parts_are_read_one_at_a_time_so_that_their_ids_differ(tmp_path: Path) -> None:
    for part in ("dev", "val"):
        write(tmp_path / part / f"anatomy_{part}.csv", "q,1,2,3,4,A\n")
    ids = [only(read(tmp_path / part, "mmlu"))[0] for part in ("dev", "val")]
    assert ids == ["mmlu/anatomy/dev-0", "mmlu/anatomy/val-0"]
    with pytest.raises(Exception, match="several parts"):
        read(tmp_path, "mmlu")


def test_mmlu_exports_number_the_right_option(tmp_path: Path) -> None:
    record = {"question": "q", "subject": "anatomy", "choices": ["w", "x", "y", "z"], "answer": 3}
    path = write(tmp_path / "test.jsonl", [record, record | {"answer": "B"}])
    items = read(path, "mmlu")
    assert [(i.row.id, i.row.answer) for i in items] == [("mmlu/anatomy/test-0", "(D)"), ("mmlu/anatomy/test-1", "(B)")]


@pytest.mark.parametrize("layout", ["{}/test.jsonl", "{}/test-00000-of-00001.jsonl", "{}/test/0000.jsonl"])
def test_mmlu_as_the_hub_lays_it_out_is_read_subject_by_subject(tmp_path: Path, layout: str) -> None:
    record = {"question": "q", "choices": ["w", "x", "y", "z"], "answer": 3}
    for subject in ("anatomy", "virology"):
        write(tmp_path / layout.format(subject), [record | {"subject": subject}])
    assert {i.row.task: i.row.id.count("-0") for i in read(tmp_path, "mmlu")} == {"anatomy": 1, "virology": 1}
    assert [i.row.task for i in load(Source(path=str(tmp_path), dataset="mmlu", tasks=["virology"]))] == ["virology"]


def test_agieval_reads_its_english_sets_and_no_others(tmp_path: Path) -> None:
    record = {
        "passage": "Seven people.",
        "question": "Who is first?",
        "options": ["(A)Ann", "(B)Bob"],
        "label": "B",
        "answer": None,
    }
    write(tmp_path / "lsat-ar.jsonl", [record])
    write(tmp_path / "aqua-rat.jsonl", [record | {"passage": None}])
    write(tmp_path / "gaokao-english.jsonl", [record])
    write(tmp_path / "gaokao-chinese.jsonl", [{"other": 1}])
    items = read(tmp_path, "agieval")
    assert [i.row.id for i in items] == ["agieval/aqua-rat/0", "agieval/lsat-ar/0"]
    assert items[0].row.question == "Who is first?\nOptions:\n(A) Ann\n(B) Bob"
    assert items[1].row.question == "Seven people.\nWho is first?\nOptions:\n(A) Ann\n(B) Bob"
    assert items[1].row.answer == "(B)"


def test_agieval_exports_have_all_in_one_text(tmp_path: Path) -> None:
    query = "Seven people. Q: Who is first? Answer Choices: (A)Ann (B)Bob\nA: Among A through B, the answer is"
    path = write(tmp_path / "agieval-lsat-ar.jsonl", [{"query": query, "choices": ["(A)Ann", "(B)Bob"], "gold": [0]}])
    assert only(read(path, "agieval")) == (
        "agieval/lsat-ar/0", "lsat-ar", "Seven people.\nWho is first?\nOptions:\n(A) Ann\n(B) Bob", "(A)",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["arc-easy", "arc-challenge"])
def test_arc_has_ids_of_its_own_and_labels_that_may_be_numbers(tmp_path: Path, name: str) -> None:
    choices = [{"text": "ice", "label": "1"}, {"text": "steam", "label": "2"}]
    record = {"id": "NYS_2006_8_10", "question": {"stem": "What is hot?", "choices": choices}, "answerKey": "2"}
    title = "ARC-Easy" if name == "arc-easy" else "ARC-Challenge"
    path = write(tmp_path / f"{title}-Test.jsonl", [record])
    (tmp_path / f"{title}-Test.csv").write_text("not,read\n")
    wanted = (f"{name}/{name}/NYS_2006_8_10", name, "What is hot?\nOptions:\n(A) ice\n(B) steam", "(B)")
    assert only(read(path, name)) == only(read(tmp_path, name)) == wanted
    export = {"id": "NYS_2006_8_10", "question": "What is hot?", "answerKey": "B",
              "choices": {"text": ["ice", "steam"], "label": ["A", "B"]}}  # fmt: skip
    assert only(read(write(tmp_path / "x" / "test.jsonl", [export]), name)) == wanted


# --- BIG-bench


def test_big_bench_tasks_are_folders_with_a_task_file_and_its_prefix(tmp_path: Path) -> None:
    examples = [
        {"input": "2 plus 2 is", "target": ["4", "four"]},
        {"input": "Is fire hot?", "target_scores": {"yes": 1, "no": 0}},
    ]
    write(tmp_path / "odd" / "task.json", {"name": "odd", "task_prefix": "Answer in short.\n", "examples": examples})
    write(tmp_path / "odd" / "results" / "scores.json", {"x": 1})
    write(tmp_path / "nested" / "part" / "task.json", {"examples": [{"input": "q", "target": "a"}]})
    items = read(tmp_path, "bb-sub")
    assert [i.row.id for i in items] == ["bb-sub/nested:part/0", "bb-sub/odd/0", "bb-sub/odd/1"]
    assert (items[1].row.question, items[1].row.answer) == ("Answer in short.\n2 plus 2 is", "4")
    assert options_of(items[2].row.question)[items[2].row.answer] == "yes"


def test_the_place_of_the_right_option_says_nothing_and_ties_are_left_out(tmp_path: Path) -> None:
    examples = [{"input": f"question {n}", "target_scores": {"right": 1, "b": 0, "c": 0, "d": 0}} for n in range(200)]
    path = write(tmp_path / "odd.json", {"examples": [*examples, {"input": "tie", "target_scores": {"a": 1, "b": 1}}]})
    answers = [item.row.answer for item in read(path, "bb-sub")]
    assert len(answers) == 200
    assert all(30 < answers.count(letter) < 70 for letter in ("(A)", "(B)", "(C)", "(D)"))
    assert [item.row.answer for item in read(path, "bb-sub")] == answers


def test_a_question_with_more_options_than_letters_is_an_open_one(tmp_path: Path) -> None:
    moves = {f"move {n}": 0 for n in range(40)} | {"mate": 1}
    path = write(
        tmp_path / "chess.json",
        {"examples": [{"input": "Mate in one?", "target_scores": moves}, {"input": "n", "target": 5}]},
    )
    assert [(i.row.question, i.row.answer) for i in read(path, "bb-sub")] == [("Mate in one?", "mate"), ("n", "5")]


def test_big_bench_exports_name_options_and_scores(tmp_path: Path) -> None:
    record = {"idx": 0, "inputs": "Is fire hot?\n  choice: yes\n  choice: no\nA:", "targets": ["yes"],
              "multiple_choice_targets": ["yes", "no"], "multiple_choice_scores": [1, 0]}  # fmt: skip
    open_one = {
        "idx": 1,
        "inputs": "2 plus 2 is",
        "targets": ["4"],
        "multiple_choice_targets": [],
        "multiple_choice_scores": [],
    }
    items = read(write(tmp_path / "odd.jsonl", [record, open_one]), "bb-sub")
    assert items[0].row.question.startswith("Is fire hot?\nOptions:\n(A) ")
    assert options_of(items[0].row.question)[items[0].row.answer] == "yes"
    assert items[1].row.answer == "4"
