"""The figures of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nesycd.knowledge.v1 import ImportEntriesResponse

from jobs.artifacts import Artifacts, StageFolder, write_jsonl
from jobs.figures import compare, helped_and_harmed, summarise
from jobs.stages import evaluate
from jobs.stages.evaluate import derangement, donors
from method.statistics import mcnemar


def answer(row_id: str, correct: bool, *entries: str) -> dict:
    return {"id": row_id, "correct": correct, "entries": [{"name": name, "text": name} for name in entries]}


def test_every_row_is_given_the_entries_of_another_one() -> None:
    for count in (2, 3, 50):
        other = derangement(count, seed=7)
        assert sorted(other) == list(range(count))
        assert all(index != given for index, given in enumerate(other))
    assert derangement(50, 7) == derangement(50, 7) != derangement(50, 8)


def test_a_row_is_given_entries_that_it_did_not_find_where_there_are_such() -> None:
    families = [frozenset({f"fact {row % 3}"}) for row in range(60)]
    other = donors(families, seed=7)
    assert sorted(other) == list(range(60)) and other == donors(families, seed=7) != donors(families, seed=8)
    assert all(families[row].isdisjoint(families[donor]) for row, donor in enumerate(other))
    # 40 of 60 rows found the same: 20 of them must be given it.
    common = [frozenset({"a"})] * 40 + [frozenset({f"b{row}"}) for row in range(20)]
    other = donors(common, seed=7)
    assert sum(not common[row].isdisjoint(common[donor]) for row, donor in enumerate(other)) == 20
    for few in ([], [["a"]], [["a"], ["a"]], [[], []]):
        other = donors(few, seed=7)
        assert sorted(other) == list(range(len(few))) and (len(few) < 2 or all(r != d for r, d in enumerate(other)))


def test_entries_help_where_only_the_answer_with_them_is_right() -> None:
    reading = [answer("1", True, "a"), answer("2", False, "a", "b"), answer("3", True, "b")]
    without = [answer("1", False), answer("2", True), answer("3", True)]
    table = {e["name"]: (e["used"], e["helped"], e["harmed"]) for e in helped_and_harmed(reading, without)}
    assert table == {"a": (2, 1, 1), "b": (2, 0, 1)}


def test_a_comparison_is_paired() -> None:
    a, b = [answer(str(i), True) for i in range(10)], [answer(str(i), i < 5) for i in range(10)]
    found = compare("a", a, "b", b)
    assert found["difference"] == 0.5 and found["n"] == 10 and found["low"] > 0 and found["p"] < 0.1


def test_shares_of_right_answers_are_tested_as_what_they_are_and_flags_by_mcnemar() -> None:
    def asked(right: int) -> list[dict]:
        return [answer(str(i), sample < right) for sample in range(3) for i in range(40)]

    found = compare("a", asked(3), "b", asked(2))
    assert found["low"] > 0 and found["p"] < 0.001, "the test must not contradict the interval"
    assert found["test"] == "permutation"
    a, b = [i < 9 for i in range(10)], [i % 2 == 0 for i in range(10)]
    flags = compare(
        "a", [answer(str(i), x) for i, x in enumerate(a)], "b", [answer(str(i), x) for i, x in enumerate(b)]
    )
    assert (flags["p"], flags["test"]) == (mcnemar(a, b), "mcnemar")


def test_a_row_that_was_answered_several_times_counts_by_its_share() -> None:
    def asked(row_id: str, *flags: bool) -> list[dict]:
        return [
            {
                **answer(row_id, flag),
                "sample": i,
                "task": "t",
                "prompt_tokens": 1,
                "completion_tokens": 1,
                "seconds": 0.1,
            }
            for i, flag in enumerate(flags)
        ]

    general = asked("1", True, True, False) + asked("2", False, False, False)
    summary = summarise(
        {"general": general, "zero_shot": asked("1", False) + asked("2", False)}, {}, headline="general"
    )
    part = summary["conditions"]["general"]
    assert (part["n"], part["samples"], round(part["accuracy"], 4)) == (2, 3, 0.3333)
    assert summary["headline"]["condition"] == "general" and summary["headline"]["accuracy"] == part["accuracy"]
    (compared,) = summary["comparisons"]
    assert compared["n"] == 2 and round(compared["difference"], 4) == 0.3333


@pytest.mark.parametrize("file", ["expert.jsonl", "expert.md"])
async def test_test_rows_are_also_looked_for_in_what_the_experts_file_brings_even_where_the_base_had_it(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = "How many legs do three mites have in all, if none of them lost any?"
    artifacts = Artifacts(str(tmp_path))
    prepare = StageFolder(artifacts, "prepare", "1")
    prepare.write("test.jsonl", write_jsonl([{"id": "t1", "task": "legs", "question": question, "answer": "24"}]))
    prepare.write("train.jsonl", b"")
    if file.endswith(".md"):
        prepare.write(file, f"# Knowledge\n\n## Mites\n\nThey have 8 legs.\n\n## —\n\n- id: 3\n\n{question}\n".encode())
    else:
        prepare.write(
            file, write_jsonl([{"text": "Mites have 8 legs."}, {"name": "2", "tags": []}, {"text": question}])
        )
    base = {"1": "Spiders have 8 legs.", "2": "Mites have 6 legs."}
    imports = 0

    async def export(_: Any) -> bytes:
        return write_jsonl({"name": f"knowledgeBases/k/entries/{i}", "text": text} for i, text in base.items())

    async def bring(*_: Any, **__: Any) -> ImportEntriesResponse:
        nonlocal imports
        imports += 1
        base["3"] = question
        return ImportEntriesResponse(created=1)

    monkeypatch.setattr(evaluate, "export_knowledge", export)
    monkeypatch.setattr(evaluate, "import_knowledge", bring)

    async def evaluated(digest: str) -> dict[str, Any]:
        folder = StageFolder(artifacts, "evaluate", digest)
        spec = SimpleNamespace(data=SimpleNamespace(expert=f"/data/{file}"))
        context: Any = SimpleNamespace(
            inputs={"prepare": prepare, "extract": None}, folder=folder, spec=spec, run_name="runs/r"
        )
        for _ in range(2):  # killed and begun again
            await evaluate._contamination(context)
            await evaluate._Evaluation._import(SimpleNamespace(context=context))  # type: ignore[arg-type]
        return json.loads(folder.read("contamination.json"))

    told = await evaluated("1")
    assert (told["entries"], told["same"]) == (2, 0), "before the import"
    anew = await evaluated("2")
    assert (anew["entries"], anew["same"], imports) == (3, 1, 2), "done anew, the base has it too"
    assert told["expert"] == anew["expert"] and (told["expert"]["entries"], told["expert"]["same"]) == (2, 1)
    assert f"the same as entry {file}:{3 if file.endswith('jsonl') else 7}" in told["expert"]["examples"][0]
