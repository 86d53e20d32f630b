"""What all data sets share: where files may lie, what is told about wrong ones, limits, tasks, and the borders of reading."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.datasets import DATASETS, files, load
from jobs.datasets.descriptions import describe
from jobs.spec import Source
from services.common.errors import InvalidArgument, NotFound

GSM = {"question": "q", "answer": "#### 1"}


def lines(path: Path, *records: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records), encoding="utf-8"
    )
    return str(path)


def refused(path: str, dataset: str, **fields: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        load(Source(path=path, dataset=dataset, **fields))
    assert caught.value.reason == "INVALID_DATA"
    return str(caught.value)


# --- where files lie


def test_a_bucket_is_read_as_a_folder_is() -> None:
    with fsspec.open("memory://sets/bbh/navigate.json", "w") as file:
        json.dump({"examples": [{"input": "a", "target": "Yes"}]}, file)
    assert load(Source(path="memory://sets/bbh", dataset="bbh"))[0].row.id == "bbh/navigate/0"
    assert load(Source(path="memory://sets/bbh/navigate.json", dataset="bbh"))[0].row.task == "navigate"


@pytest.mark.parametrize("dataset", ["rows", *DATASETS])
def test_what_is_not_there_is_told_by_its_path(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(NotFound, match="absent"):
        load(Source(path=str(tmp_path / "absent"), dataset=dataset))


def test_a_folder_without_such_files_and_an_unknown_protocol_are_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "no file of this data set; it holds notes.txt" in refused(str(tmp_path), "bbh")
    with pytest.raises(InvalidArgument, match="nowhere"):
        load(Source(path="nowhere://x", dataset="bbh"))


def test_our_own_rows_are_a_file_with_all_of_the_same_options(tmp_path: Path) -> None:
    rows = [{"id": str(n), "task": "ab"[n % 2], "question": "q", "answer": "1", "facts": "seen"} for n in range(6)]
    path = lines(tmp_path / "rows.jsonl", *rows)
    assert [i.row.id for i in load(Source(path=path, tasks=["b"]))] == ["1", "3", "5"]
    assert [i.dump() for i in load(Source(path=path, limit=3))] == [rows[0], rows[1], rows[2]]
    assert "is a folder; name a file" in refused(str(tmp_path), "rows")


@pytest.mark.parametrize(
    ("name", "told"), [("t.xls", "save it as CSV"), ("t.xlsx", "save it as CSV"), ("t.json.gz", "unpack it first")]
)
def test_a_file_of_another_form_is_refused_with_what_to_do(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1")
    assert told in refused(str(tmp_path / name), "gsm8k") and told in refused(str(tmp_path / name), "rows")


# --- Parquet


def parquet(path: Path, *records: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
    return str(path)


@pytest.mark.parametrize(
    ("dataset", "folder", "name", "record"),
    [
        ("gsm8k", "main", "main/test-00000-of-00001.parquet", {"question": "q", "answer": "2\n#### 2"}),
        ("mmlu", "all", "all/test-00000-of-00001.parquet",
         {"question": "q", "subject": "anatomy", "choices": ["w", "x", "y", "z"], "answer": 3}),
        ("arc-easy", "ARC-Easy", "ARC-Easy/test-00000-of-00001.parquet",
         {"id": "1", "question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}),
        ("gsm8k-plus", "data", "data/test-00000-of-00001.parquet",
         {"question": "q", "answer": "7.0", "perturbation_type": "adding operation", "seed_answer": "6"}),
        ("agieval", "set", "set/agieval-lsat-ar.parquet",
         {"query": "P. Q: q Answer Choices: (A)a (B)b\nA: Among A through B, the answer is", "choices": ["(A)a", "(B)b"], "gold": [1]}),
    ],
)  # fmt: skip
def test_the_hubs_parquet_files_are_read_as_their_lines_are(
    tmp_path: Path, dataset: str, folder: str, name: str, record: dict[str, Any]
) -> None:
    parquet(tmp_path / "p" / name, record)
    lines((tmp_path / "l" / name).with_suffix(".jsonl"), record)
    made, same = (load(Source(path=str(tmp_path / form / folder), dataset=dataset)) for form in "pl")
    assert made == same and len(made) == 1


def test_a_wrong_record_of_parquet_is_told_with_its_number_and_a_wrong_file_with_its_name(tmp_path: Path) -> None:
    path = parquet(tmp_path / "test.parquet", *[GSM] * 1500, {"question": "q", "answer": "1"})
    assert f"{path}:1501: 'answer' has no '####'" in refused(path, "gsm8k")
    (tmp_path / "test.parquet").write_bytes(b"PAR1")
    assert f"{path}:1: not Parquet (" in refused(path, "gsm8k")
    assert f"it is Parquet; make rows of it: nesycd data convert {path}" in refused(path, "rows")


def test_parquet_without_its_package_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "test.parquet").write_bytes(b"PAR1")
    assert "install the extra 'parquet'" in refused(str(tmp_path / "test.parquet"), "gsm8k")


# --- one part of a data set at a time

BBH = {"input": "q", "target": "(A)"}
ARC = {"id": "1", "question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
AGI = {"question": "q", "options": ["(A)x", "(B)y"], "label": "A"}
META = {"query": "q", "response": "The answer is: 1", "type": "GSM_a"}
PLUS = {"question": "q", "answer": "1", "perturbation_type": "adding operation"}
MMLU = {"question": "q", "subject": "anatomy", "choices": ["w", "x"], "answer": 0}


@pytest.mark.parametrize(
    ("dataset", "record", "one", "other"),
    [
        ("agieval", AGI, "v1/lsat-ar.jsonl", "v1_1/lsat-ar.jsonl"),
        ("agieval", AGI, "lsat-ar.jsonl", "agieval-lsat_ar.jsonl"),
        ("arc-easy", ARC, "ARC-Easy-Test.jsonl", "ARC-Easy-Train.jsonl"),
        ("arc-easy", ARC, "ARC-Easy/test.jsonl", "ARC-Easy/validation.jsonl"),
        ("arc-easy", ARC, "ARC-Easy/test.jsonl", "ARC-Easy/ARC-Easy-Test.jsonl"),
        ("bbh", BBH, "navigate.json", "bbh/navigate.json"),
        ("bbh", BBH, "navigate.json", "navigate.jsonl"),
        ("bb-sub", BBH, "navigate/task.json", "navigate.json"),
        ("bb-sub", BBH, "navigate/task.json", "bigbench/benchmark_tasks/navigate/task.json"),
        ("gsm8k", GSM, "main/test.jsonl", "socratic/test.jsonl"),
        ("gsm8k-plus", PLUS, "gsmplus_test.jsonl", "gsmplus_testmini.jsonl"),
        ("gsm8k-plus", PLUS, "test.jsonl", "copy/test.jsonl"),
        ("metamathqa", META, "MetaMathQA-395K.json", "MetaMathQA-40K.json"),
        ("mmlu", MMLU, "all/test.jsonl", "anatomy/test.jsonl"),
        ("mmlu", MMLU, "all/test.jsonl", "virology/test.jsonl"),
        ("mmlu", MMLU, "anatomy/dev.jsonl", "anatomy/test.jsonl"),
        ("mmlu", MMLU, "dev/anatomy/0000.jsonl", "test/anatomy/0000.jsonl"),
        ("mmlu", MMLU, "train/rows.jsonl", "test/rows.jsonl"),
        ("mmlu", MMLU, "test.jsonl", "validation.jsonl"),
    ],
)
def test_two_parts_of_a_data_set_are_never_read_as_one(
    tmp_path: Path, dataset: str, record: Any, one: str, other: str
) -> None:
    for name in (one, other):
        lines(tmp_path / "there" / name, record)
    told = refused(str(tmp_path / "there"), dataset)
    assert "several parts of the data set (" in told and one in told and other in told and "name one of them" in told
    assert len(load(Source(path=str(tmp_path / "there" / one), dataset=dataset))) == 1


def test_a_folder_must_say_of_which_of_arcs_sets_its_files_are(tmp_path: Path) -> None:
    lines(tmp_path / "ARC-Challenge" / "test.jsonl", ARC)
    lines(tmp_path / "mine" / "test.jsonl", ARC)
    for folder in (tmp_path, tmp_path / "ARC-Challenge", tmp_path / "mine"):
        assert "no file of this data set" in (told := refused(str(folder), "arc-easy"))
        assert "test.jsonl; name the file itself" in told
    for path in (tmp_path, tmp_path / "ARC-Challenge", tmp_path / "mine" / "test.jsonl"):
        assert load(Source(path=str(path), dataset="arc-challenge"))[0].row.id == "arc-challenge/arc-challenge/1"


def test_mmlus_auxiliary_training_data_are_no_subject(tmp_path: Path) -> None:
    lines(tmp_path / "auxiliary_train" / "mc_test.csv", "q,1,2,3,4,A")
    assert "no file of this data set" in refused(str(tmp_path / "auxiliary_train"), "mmlu")
    lines(tmp_path / "test" / "anatomy_test.csv", "q,1,2,3,4,A")
    assert [i.row.task for i in load(Source(path=str(tmp_path), dataset="mmlu"))] == ["anatomy"]


# --- limits and tasks


def test_with_a_limit_the_tasks_take_turns_and_the_order_stays(tmp_path: Path) -> None:
    for task, count in (("a", 1), ("b", 9), ("c", 9)):
        path = tmp_path / f"{task}.json"
        path.write_text(json.dumps({"examples": [{"input": str(n), "target": "x"} for n in range(count)]}))
    ids = [i.row.id for i in load(Source(path=str(tmp_path), dataset="bbh", limit=6))]
    assert ids == ["bbh/a/0", "bbh/b/0", "bbh/b/1", "bbh/b/2", "bbh/c/0", "bbh/c/1"]


def test_a_task_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "snarks.json").write_text(json.dumps({"examples": [{"input": "a", "target": "b"}]}))
    assert "there is no task 'snark'; there are snarks" in refused(str(tmp_path), "bbh", tasks=["snark"])


# --- wrong files


def test_every_mistake_is_told_with_file_and_line_and_what_was_found_and_wanted(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "train.jsonl",
        GSM,
        {"query": "q", "response": "r"},
        "{not json",
        {"question": "q", "answer": "1"},
        ["x"],
    )
    text = refused(path, "gsm8k")
    assert f"{path}:2: unknown form: found the fields query, response; wanted question, answer" in text
    assert f"{path}:3: not JSON" in text
    assert f"{path}:4: 'answer' has no '####'" in text
    assert f"{path}:5: unknown form: found the fields a list; wanted" in text


@pytest.mark.parametrize("dataset", list(DATASETS))
@pytest.mark.parametrize(
    "content", ["", "\n\n", "[]", "{}", "[1, 2]", "null", "{", "[", '{"a": 1}', "[" * 10_000, "\x00", "a,b,c", '"']
)
def test_no_file_whatever_is_in_it_ends_in_anything_but_a_clear_refusal(
    tmp_path: Path, dataset: str, content: str
) -> None:
    names = {"agieval": "lsat-ar.jsonl", "mmlu": "anatomy_dev.csv"}
    path = tmp_path / names.get(dataset, "train.jsonl")
    path.write_text(content)
    assert str(path) in refused(str(path), dataset)


def test_records_that_share_a_line_are_told_by_their_number_and_repeated_ids_among_them(tmp_path: Path) -> None:
    path = tmp_path / "navigate.json"
    path.write_text(json.dumps({"examples": [{"input": "q", "target": "a"}, {"input": "q", "target": " "}]}))
    assert f"{path}:1 (record 2): 'target' is empty" in refused(str(path), "bbh")
    path = tmp_path / "ARC-Easy-Test.jsonl"
    path.write_text(json.dumps([ARC, ARC]))
    assert f"'arc-easy/arc-easy/1' stands in {path}:1 already" in refused(str(path), "arc-easy")


@pytest.mark.parametrize(
    ("dataset", "name", "record", "told"),
    [
        ("bbh", "navigate.json", BBH | {"target": ""}, "'target' is empty"),
        ("gsm8k", "test.jsonl", GSM | {"question": None}, "'question' must be text, not null"),
        ("metamathqa", "MetaMathQA.json", META | {"query": ""}, "'query' is empty"),
        ("mmlu", "test.jsonl", MMLU | {"choices": ["w", None]}, "'choices' must be a list of texts"),
        ("bb-sub", "odd.json", BBH | {"target": []}, "'target' must be text or a list that begins with one"),
        ("bb-sub", "odd.json", {"input": "q", "target_scores": {}}, "'target_scores' has no option"),
        ("agieval", "sat-math.jsonl", AGI | {"label": None, "answer": "2"}, "'label' must be text, not null"),
        ("gsm8k-plus", "test.jsonl", PLUS | {"perturbation_type": " "}, "'perturbation_type' is empty"),
        ("arc-easy", "ARC-Easy-Test.jsonl", ARC | {"answerKey": ""}, "'answerKey' is empty"),
    ],
)
def test_a_field_is_told_by_the_name_that_its_makers_gave_it_with_what_to_do(
    tmp_path: Path, dataset: str, name: str, record: dict[str, Any], told: str
) -> None:
    path = lines(tmp_path / "there" / name, record)
    text = refused(path, dataset)
    assert f"{path}:1: {told}" in text and "correct these records, or take them out of a copy of the file" in text
    assert "`tasks`" not in text


def test_where_tasks_are_files_a_wrong_one_may_be_left_out_and_that_is_said(tmp_path: Path) -> None:
    lines(tmp_path / "navigate.json", BBH)
    lines(tmp_path / "snarks.json", {"input": "q"})
    assert "; or name the other tasks with `tasks`" in refused(str(tmp_path), "bbh")
    assert len(load(Source(path=str(tmp_path), dataset="bbh", tasks=["navigate"]))) == 1


def test_wrong_options_scores_and_labels_are_told(tmp_path: Path) -> None:
    arc = {
        "id": "1",
        "question": {"stem": "q", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]},
        "answerKey": "E",
    }
    assert "the answer 'E' is none of the labels A, B" in refused(
        lines(tmp_path / "ARC-Easy-Dev.jsonl", arc), "arc-easy"
    )
    assert "found 3 cells; wanted 6" in refused(lines(tmp_path / "x_dev.csv", "q,a,B"), "mmlu")
    assert "'E' is none of the 4 options" in refused(lines(tmp_path / "y_dev.csv", "q,1,2,3,4,E"), "mmlu")
    agi = {"question": "q", "options": ["(B)x", "(A)y"], "label": "A"}
    assert "option 1 has the letter (B)" in refused(lines(tmp_path / "sat-en.jsonl", agi), "agieval")
    assert "name the file after its set" in refused(lines(tmp_path / "mine.jsonl", agi), "agieval")
    scored = {"examples": [{"input": "q", "target_scores": {"a": "high", "b": 0}}]}
    assert "needs a number as its score" in refused(lines(tmp_path / "task.json", scored), "bb-sub")
    meta = {"query": "q", "response": "The answer is: 1", "type": "POEM_x"}
    assert "must begin with GSM_ or MATH_" in refused(lines(tmp_path / "MetaMathQA.jsonl", meta), "metamathqa")


def test_a_record_that_repeats_an_id_or_is_too_long_is_told(tmp_path: Path) -> None:
    arc = {
        "id": "1",
        "question": {"stem": "q", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]},
        "answerKey": "A",
    }
    path = lines(tmp_path / "ARC-Easy-Dev.jsonl", arc, arc)
    assert f"'arc-easy/arc-easy/1' stands in {path}:1 already" in refused(path, "arc-easy")
    long = lines(tmp_path / "train.jsonl", {"question": "q" * 40_000, "answer": "#### 1"})
    assert f"{long}:1: 'question' has 40000 characters" in refused(long, "gsm8k")


def test_an_open_quote_and_bytes_that_are_no_text_are_told_with_their_line(tmp_path: Path) -> None:
    assert "x_dev.csv:" in refused(lines(tmp_path / "x_dev.csv", "q,1,2,3,4,A", '"open,1,2,3,4,B'), "mmlu")
    path = tmp_path / "train.jsonl"
    path.write_bytes(json.dumps(GSM).encode() + b"\n\xff\n")
    assert f"{path}:2: byte 0xff is not UTF-8" in refused(str(path), "gsm8k")
    path.write_bytes(json.dumps(GSM).encode("utf-16"))
    assert "is UTF-16; save it as UTF-8" in refused(str(path), "gsm8k")


# --- how files are read


@pytest.mark.parametrize("form", ["lines", "list", "indented", "examples"])
def test_a_byte_order_mark_and_line_ends_of_windows_change_nothing(tmp_path: Path, form: str) -> None:
    records = [{"input": "a\u2028b", "target": "1"}, {"input": "c", "target": "2"}]
    text = {
        "lines": "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records),
        "list": json.dumps(records),
        "indented": json.dumps(records, indent=4),
        "examples": json.dumps({"canary": "x", "examples": records, "after": [1]}, indent=2),
    }[form]
    path = tmp_path / "navigate.json"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert [(i.row.question, i.row.answer) for i in load(Source(path=str(path), dataset="bbh"))] == [
        ("a\u2028b", "1"),
        ("c", "2"),
    ]


def test_the_lines_of_an_indented_list_are_those_of_its_elements(tmp_path: Path) -> None:
    path = tmp_path / "MetaMathQA.json"
    path.write_text(json.dumps([{"query": "q"}, {"query": "r"}], indent=2))
    assert f"{path}:2: unknown form" in (text := refused(str(path), "metamathqa"))
    assert f"{path}:5: unknown form" in text


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=30), st.integers(1, 40), st.sampled_from([None, 2]))
def test_a_list_is_read_the_same_in_pieces_of_any_size(texts: list[str], size: int, indent: int | None) -> None:
    content = json.dumps([{"n": n, "text": text} for n, text in enumerate(texts)], indent=indent)
    with fsspec.open("memory://pieces/list.json", "w", encoding="utf-8") as file:
        file.write(" \n" + content)
    before, files._CHUNK = files._CHUNK, size
    try:
        _, records = files.records(files.find("memory://pieces/list.json")[0])
        assert [record["text"] for _, record in records] == texts
    finally:
        files._CHUNK = before


def test_a_list_that_breaks_off_is_told_where(tmp_path: Path) -> None:
    path = tmp_path / "MetaMathQA.json"
    path.write_text('[\n{"query": "q", "response": "The answer is: 1", "type": "GSM_a"},\n{"query": ')
    assert f"{path}:3: not JSON" in refused(str(path), "metamathqa")


def test_files_of_other_tasks_are_not_read_at_all(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(json.dumps({"examples": [{"input": "a", "target": "b"}]}))
    (tmp_path / "bad.json").write_text("broken")
    assert len(load(Source(path=str(tmp_path), dataset="bbh", tasks=["good"]))) == 1


# --- descriptions


def test_every_task_and_data_set_is_described_in_one_short_line() -> None:
    for dataset, task in [
        ("bbh", "snarks"),
        ("bbh", "word_sorting"),
        *((name, "whatever") for name in DATASETS),
        ("rows", "mine"),
    ]:
        text = describe(dataset, task)
        assert "\n" not in text and len(text) < 160
        assert bool(text) is (dataset != "rows")
