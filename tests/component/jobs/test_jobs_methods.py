"""What several rounds, and several methods of one spec, do and share. Real Valkey, real workers, faked services over gRPC."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.component.jobs.conftest import World
from tests.tiny import make_tiny_model

SMALL: dict[str, Any] = {"student": {"base_model": "tiny"}, "training": {"lora": {"rank": 2}, "dtype": "float32"}}


def stage_file(world: World, run_id: str, stage: str, round_: int, name: str) -> list[dict[str, Any]]:
    digest = next(s.digest for s in world.run(run_id).stages if (s.name, s.round) == (stage, round_))
    text = (world.folder / "artifacts" / "stages" / stage / digest / name).read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_rounds_end_when_held_out_rows_gain_nothing_though_a_worker_is_killed_while_it_is_decided(world: World) -> None:
    make_tiny_model(world.folder / "artifacts" / "models" / "tiny")
    data = {"train": world.data(8, "t"), "test": world.data(3), "held_out": 0.25}
    # In the second fold, and when the second round's student is asked about held-out rows: its decision is about to be made.
    kill_at = ["adapters/r-fold-1@1", "adapters/r@2"]

    def kill(question: str) -> None:
        if kill_at and world.house.asked[kill_at[0], question]:
            kill_at.pop(0)
            os.kill(world.workers[-1].popen.pid, signal.SIGKILL)  # type: ignore[union-attr]

    world.house.on_answer = kill
    knowledge = {"utility": {"rows": 4}}
    world.submit("r", rounds=3, data=data, diagnose={"folds": 2, "samples": 2}, knowledge=knowledge, **SMALL)
    for _ in range(2):
        worker = world.worker()
        assert worker.popen and worker.popen.wait(120) == -signal.SIGKILL
    world.worker()
    record = world.wait_over("r", patience=120)

    skipped = [(stage.name, stage.round) for stage in record.stages if stage.skipped]
    assert skipped == [(name, 3) for name in ("diagnose", "extract", "train-augmented", "validate")]
    assert {stage.state for stage in record.stages} == {"SUCCEEDED"}
    assert all(stage.note.startswith("skipped: round 2 gained less") for stage in record.stages if stage.skipped)
    # Both rounds are right everywhere: the first one is kept.
    assert record.adapter == "adapters/r@1" and record.accuracy["augmented"] == 1.0
    assert world.house.called("SetAlias")[-1].alias.adapter == "adapters/r@1"

    held_out = {row["id"] for row in stage_file(world, "r", "prepare", 1, "held_out.jsonl")}
    assert len(held_out) == 2
    assert {row for kind, row in world.house.asked if kind == "rationale"} == {f"t{i}" for i in range(8)} - held_out
    assert {row["row_id"] for row in stage_file(world, "r", "train-augmented", 2, "rows.jsonl")}.isdisjoint(held_out)
    # Each row was answered by the student that had not seen it, twice, and these students are gone.
    folds = [{q for adapter, q in world.house.asked if adapter == f"adapters/r-fold-{n}@1"} for n in range(2)]
    assert len(folds[0] | folds[1]) == 6 and not folds[0] & folds[1]
    assert {world.house.asked["adapters/r-fold-0@1", question] for question in folds[0]} == {2}
    # Nor does the student keep those of the run that it is not to serve; their files stay.
    assert {request.adapter for request in world.house.called("UnloadAdapter")} == {
        "adapters/r-fold-0@1", "adapters/r-fold-1@1", "adapters/r-general@1", "adapters/r@2",
    }  # fmt: skip
    assert (world.folder / "artifacts" / "adapters" / "r-general" / "1" / "manifest.json").exists()
    assert not list((world.folder / "artifacts" / "adapters").glob("r-fold-*/*"))
    # With the only entry all four rows are right, without it none: it helped, and nothing is retired.
    (line,) = stage_file(world, "r", "validate", 1, "utility.jsonl")
    assert (line["used"], line["helped"], line["harmed"], line["retire"]) == (4, 4, 0, False)


def test_methods_of_one_spec_share_what_they_have_in_common_and_the_teacher_is_asked_once(world: World) -> None:
    make_tiny_model(world.folder / "artifacts" / "models" / "tiny")
    corpus = world.folder / "corpus.txt"
    corpus.write_text("It is 5.\n\nIt is not 6.\n")
    data = {"train": world.data(6, "t"), "test": world.data(3), "passages": str(corpus)}
    methods = ("nesycd", "std-cot", "nesycd-paper", "nesycd-no-ap", "nesycd-gate", "few-shot-cot", "kard", "zero-shot")
    world.worker()
    reused: dict[str, list[str]] = {}
    for method in methods:
        world.submit(method, method=method, data=data, **SMALL)
        record = world.wait_over(method, patience=120)
        reused[method] = [stage.name for stage in record.stages if stage.reused]
        assert [s.name for s in record.stages if s.attempts != 1] == []
    begun = ["prepare", "rationalize", "train-general", "diagnose", "extract"]
    assert reused == {
        "nesycd": [], "std-cot": begun[:3], "nesycd-paper": begun, "nesycd-no-ap": begun, "nesycd-gate": [*begun, "train-augmented"],
        "few-shot-cot": begun[:2], "kard": begun[:2], "zero-shot": begun[:1],
    }  # fmt: skip
    for kind in ("rationale", "extract", "counterfactual"):
        counts = [n for (asked, row), n in world.house.asked.items() if asked == kind and row.startswith("t")]
        assert counts and set(counts) == {1}, kind
    imports = [content for options, content in world.house.called("ImportEntries") if options.author == "passages"]
    assert [content.count(b"\n") for content in imports] == [2]
    assert Path(world.run("kard").report_uri.removeprefix("file://")).exists()


@pytest.mark.parametrize("further", [{"rounds": 2}, {"knowledge": {"utility": {"rows": 2}}}], ids=["rounds", "utility"])
def test_methods_of_one_spec_share_as_much_where_rows_are_held_out(further: dict[str, Any], world: World) -> None:
    make_tiny_model(world.folder / "artifacts" / "models" / "tiny")
    corpus = world.folder / "corpus.txt"
    corpus.write_text("It is 5.\n\nIt is not 6.\n")
    data = {"train": world.data(8, "t"), "test": world.data(3), "passages": str(corpus), "held_out": 0.25}
    world.worker()
    reused: dict[str, list[str]] = {}
    for method in ("nesycd", "std-cot", "kard", "zero-shot"):
        world.submit(method, method=method, data=data, least_gain=0.0, **further, **SMALL)
        record = world.wait_over(method, patience=120)
        reused[method] = [stage.name for stage in record.stages if stage.reused]
    begun = ["prepare", "rationalize", "train-general"]
    assert reused == {"nesycd": [], "std-cot": begun, "kard": begun[:2], "zero-shot": begun[:1]}
    held_out = {row["id"] for row in stage_file(world, "nesycd", "prepare", 1, "held_out.jsonl")}
    assert len(held_out) == 2
    for run, stage in (("std-cot", "train-general"), ("kard", "train-augmented")):
        assert {row["row_id"] for row in stage_file(world, run, stage, 1, "rows.jsonl")} == {
            f"t{i}" for i in range(8)
        } - held_out


def test_a_corpus_is_not_imported_over_what_people_made_of_its_passages(world: World) -> None:
    make_tiny_model(world.folder / "artifacts" / "models" / "tiny")
    corpus = world.folder / "corpus.txt"
    data = {"train": world.data(4, "t"), "test": world.data(2), "passages": str(corpus)}
    world.worker()
    for run, text in (("first", "It is 5.\n"), ("second", "It is 5.\n\nIt is not 6.\n")):
        corpus.write_text(text)
        world.submit(run, **{**SMALL, "method": "kard", "data": data, "knowledge": {"base": "shared"}})
        assert world.wait_over(run, patience=120).state == "SUCCEEDED"
    imports = [content for options, content in world.house.called("ImportEntries") if options.author == "passages"]
    assert [json.loads(content)["text"] for content in imports] == ["It is 5.", "It is not 6."]
