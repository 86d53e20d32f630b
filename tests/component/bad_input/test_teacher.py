"""A teacher that refuses the key, is down, or answers garbage: the run says so and goes on when that is mended."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from nesycd.runs.v1 import RUN_STATE_SUCCEEDED, GetRunRequest, RunServiceStub

from tests.command import Home, until


@pytest.mark.parametrize(
    ("seed", "fault", "reason", "says"),
    [
        (101, {"api_key": "another"}, "TEACHER_KEY_REFUSED", "NESYCD_TEACHER_UPSTREAM_API_KEY"),
        (102, {"down": True}, "TEACHER_UNAVAILABLE", "NESYCD_TEACHER_UPSTREAM_URL"),
        (103, {"garbage_rate": 1}, "TEACHER_BROKEN_RESPONSE", "NESYCD_TEACHER_UPSTREAM_URL and NESYCD_TEACHER_BACKEND"),
    ],
)
def test_trouble_at_the_teacher_ends_the_run_with_its_reason_and_a_resumed_run_goes_on(
    home: Home, seed: int, fault: dict[str, Any], reason: str, says: str
) -> None:
    run_id = reason.lower().replace("_", "-")
    spec = home.spec(run_id, train=6, test=2, seed=seed, method="std-cot")
    home.standin("/control", **fault)
    try:
        run = home.json("run", str(spec), "--id", run_id, status=1)
    finally:
        home.standin("/control", reset=True)
    assert run["state"] == "RUN_STATE_FAILED"
    assert (run["error"]["reason"], run["error"]["stage"]) == (reason, "rationalize")
    assert says in run["error"]["message"], run["error"]["message"]
    assert not any(key in run["error"]["message"] for key in ("stand-in-key", "another"))
    # Of the stage nothing is there that could pass for its output.
    made = home.folder / "artifacts" / "stages" / "rationalize"
    assert not [
        p for p in made.rglob("*.jsonl") if p.name != "rejected.jsonl" and not (p.parent / "manifest.json").exists()
    ]
    assert home.json("resume", run_id)["state"] == "RUN_STATE_SUCCEEDED"


def test_a_teacher_that_knows_nothing_usable_ends_the_run_with_advice(home: Home) -> None:
    spec = home.spec("liar", train=6, test=2, seed=104, method="std-cot")
    home.standin("/control", wrong_answer_rate=1)
    try:
        run = home.json("run", str(spec), "--id", "liar", status=1)
    finally:
        home.standin("/control", reset=True)
    assert (run["error"]["reason"], run["error"]["stage"]) == ("NO_RATIONALES", "rationalize")


def test_a_teacher_that_fails_at_every_hard_case_ends_the_run_instead_of_an_empty_knowledge_base(home: Home) -> None:
    name = home.nesycd("run", str(home.spec("no-knowledge", train=6, test=2, seed=105)), "--detach").stdout.strip()
    with grpc.insecure_channel(home.address("runs")) as channel:
        stub = RunServiceStub(channel)

        def rationalized() -> bool:
            stages = stub.GetRun(GetRunRequest(name=name), timeout=10).run.stages
            return any(stage.name == "rationalize" and stage.state == RUN_STATE_SUCCEEDED for stage in stages)

        until(rationalized, pause=0.05)
    home.standin("/control", garbage_rate=1)
    try:
        run = home.json("watch", name, status=1)
    finally:
        home.standin("/control", reset=True)
    assert (run["error"]["reason"], run["error"]["stage"]) == ("TEACHER_BROKEN_RESPONSE", "extract")
    assert "NESYCD_TEACHER_UPSTREAM_URL" in run["error"]["message"]
    run = home.json("resume", name)
    assert run["state"] == "RUN_STATE_SUCCEEDED"
    assert home.json("kb", "search", "legs", "--kb", run["knowledge_base"])["results"]
