"""`nesycd compare` and `nesycd plan`, every process real: methods share what they have in common, and nothing is paid or trained twice."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import Home, until

METHODS = "zero-shot,std-cot,mt-cot,nesycd"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with Home(tmp_path_factory.mktemp("compare")).up() as made:
        yield made


@pytest.fixture(scope="module")
def spec(home: Home) -> Path:
    return home.spec("small", train=12, test=6)


@pytest.fixture(scope="module")
def figures(home: Home, spec: Path) -> dict[str, Any]:
    done = home.nesycd("compare", str(spec), "--methods", METHODS, "--out", "out/c.html", patience=280)
    told = home.json("compare", str(spec), "--methods", METHODS)
    return {**told, "log": done.stderr, "text": done.stdout}


def runs(home: Home) -> list[dict[str, Any]]:
    return home.json("runs")


def manifests(home: Home, stage: str) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in (home.folder / "artifacts" / "stages" / stage).glob("*/manifest.json")]


def test_a_plan_tells_what_a_run_takes(home: Home, spec: Path) -> None:
    made = home.json("plan", str(spec))
    stages = {stage["name"]: stage for stage in made["stages"]}
    assert int(stages["rationalize"]["teacher_calls"]) == 12 and made["cost_usd"] > 0 and int(made["parameters"]) > 0
    text = home.nesycd("plan", str(spec), "--method", "std-ft").stdout
    assert "rationalize" not in text and "train-general" in text and "million parameters" in text
    assert runs(home) == []


def test_each_method_has_a_row_against_the_baseline(figures: dict[str, Any], home: Home) -> None:
    heads = {row["method"]: row for row in figures["rows"] if row["headline"]}
    assert list(heads) == METHODS.split(",") and figures["baseline"] == "Std-CoT"
    assert all(row["n"] == 6 for row in heads.values()) and heads["std-cot"]["difference"] is None
    assert (home.base / "out/c.html").read_text().startswith("<!doctype html>")
    assert "Std-CoT" in (home.base / "out/c.md").read_text()
    assert "nesycd, seed 7: running" in figures["log"], "a log file gets lines"
    assert "baseline" in figures["text"] and "without sharing stages" in figures["text"]


def test_what_methods_have_in_common_is_asked_and_trained_once(figures: dict[str, Any], home: Home) -> None:
    assert len(manifests(home, "rationalize")) == 1 and len(manifests(home, "prepare")) == 1
    # One for Std-CoT and NesyCD together, one for MT-CoT.
    assert len(manifests(home, "train-general")) == 2 and len(manifests(home, "train-augmented")) == 1
    costs = {cost["title"]: cost for cost in figures["costs"]}
    assert costs["Std-CoT"]["calls"] >= 12 and sum("rationalize" in c["reused_stages"] for c in costs.values()) == 2
    assert figures["total"]["once"]["calls"] < figures["total"]["apart"]["calls"]


def test_the_same_command_again_takes_up_what_is_there(figures: dict[str, Any], home: Home, spec: Path) -> None:
    before, asked = runs(home), home.standin("/calls")
    home.nesycd("compare", str(spec), "--methods", METHODS, "--baseline", "nesycd")
    assert home.standin("/calls") == asked
    assert [run["name"] for run in runs(home)] == [run["name"] for run in before] and len(before) == 4
    assert all(re.fullmatch(r"runs/small-[a-z-]+-\d+-[0-9a-f]{8}", run["name"]) for run in before)
    assert not any(run["spec"]["publish"]["alias"] for run in before), "a comparison publishes nothing"
    ids = ",".join(run["name"].removeprefix("runs/") for run in before[:2])
    assert home.json("compare", "--runs", ids)["questions"] == 6


def test_a_method_that_cannot_run_does_not_stop_the_others_and_is_named_with_its_reason(
    figures: dict[str, Any], home: Home, spec: Path
) -> None:
    done = home.nesycd("compare", str(spec), "--methods", "zero-shot,std-cot,kard", status=1)
    assert "kard, seed" in done.stderr and "data.passages" in done.stderr and "Std-CoT" in done.stdout


def test_ctrl_c_leaves_the_runs_going_and_says_how_to_come_back(
    figures: dict[str, Any], home: Home, spec: Path
) -> None:
    command = [
        str(Path(sys.executable).with_name("nesycd")),
        "compare",
        str(spec),
        "--methods",
        "std-cot,std-ft",
        "--seeds",
        "3",
    ]
    log = home.base / "compare.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=home.env, cwd=home.base, stderr=output, stdout=subprocess.DEVNULL)
    try:
        until(lambda: "std-cot, seed 3: " in log.read_text() and "std-ft, seed 3: " in log.read_text())
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    told = log.read_text()
    assert process.returncode == 130 and "The runs go on" in told and "Traceback" not in told
    done = home.nesycd(*command[1:], patience=200)
    assert "Std-FT" in done.stdout and len(runs(home)) == 6
