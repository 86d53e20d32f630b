"""A teacher that refuses the key, is down, or answers garbage: the run says so and goes on when that is mended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.command import Home


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
    assert not [p for p in made.rglob("*.jsonl") if p.name != "rejected.jsonl" and not (p.parent / "manifest.json").exists()]
    assert home.json("resume", run_id)["state"] == "RUN_STATE_SUCCEEDED"


def test_a_teacher_that_knows_nothing_usable_ends_the_run_with_advice(home: Home) -> None:
    spec = home.spec("liar", train=6, test=2, seed=104, method="std-cot")
    home.standin("/control", wrong_answer_rate=1)
    try:
        run = home.json("run", str(spec), "--id", "liar", status=1)
    finally:
        home.standin("/control", reset=True)
    assert (run["error"]["reason"], run["error"]["stage"]) == ("NO_RATIONALES", "rationalize")
