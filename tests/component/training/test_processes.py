"""One training in two processes: the same as in one, and what happens when one of them dies, or the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from jobs.training import (
    ADAPTER_FILE,
    ProcessLost,
    StepReport,
    TrainingError,
    TrainingResult,
    TrainingSettings,
    TrainingStopped,
    train,
)
from tests.tiny import ROWS, make_tiny_model

pytestmark = pytest.mark.timeout(600)

SETTINGS = TrainingSettings(
    rank=2, alpha=4, epochs=2, batch_size=3, max_tokens_per_batch=60, checkpoint_steps=2, dtype="float32", seed=5, processes=2
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread_each() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", spread=0.3)


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Callable[..., TrainingResult]:
    def call(name: str, settings: TrainingSettings = SETTINGS, **more) -> TrainingResult:
        return train(ROWS, base, tmp_path / name / "adapter", tmp_path / name / "work", settings, **more)

    return call


def members() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "jobs.training.member" in (p.info["cmdline"] or ())]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


def test_two_processes_learn_what_one_does_step_by_step(run, tmp_path):
    reports: list[StepReport] = []
    one = run("one", replace(SETTINGS, processes=1))
    two = run("two", on_step=reports.append)
    assert two.processes == 2
    assert [r["loss"] for r in two.history] == pytest.approx([r["loss"] for r in one.history], abs=1e-5)
    assert (two.steps, two.tokens, two.rows) == (one.steps, one.tokens, one.rows)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    adapters = [load_file(tmp_path / name / "adapter" / ADAPTER_FILE) for name in ("one", "two")]
    assert adapters[0].keys() == adapters[1].keys()
    for name, tensor in adapters[0].items():
        assert (tensor - adapters[1][name]).abs().max() < 1e-4, name
    assert not members()


def test_two_processes_stopped_and_resumed_end_with_the_bytes_of_two_left_alone(run, tmp_path):
    settings = replace(SETTINGS, dropout=0.1)
    run("whole", settings)
    reports: list[StepReport] = []
    with pytest.raises(TrainingStopped) as stopped:
        run("parts", settings, on_step=reports.append, should_stop=lambda: len(reports) >= 2)
    assert stopped.value.step < 6
    assert not (tmp_path / "parts" / "adapter" / ADAPTER_FILE).exists()
    assert run("parts", settings).resumed_from == stopped.value.step
    adapters = [(tmp_path / name / "adapter" / ADAPTER_FILE).read_bytes() for name in ("whole", "parts")]
    assert adapters[0] == adapters[1]


def test_a_training_goes_on_with_another_number_of_processes(run):
    reports: list[StepReport] = []
    with pytest.raises(TrainingStopped):
        run("a", replace(SETTINGS, processes=1), on_step=reports.append, should_stop=lambda: len(reports) >= 3)
    result = run("a")
    assert (result.resumed_from, result.steps) == (3, 6)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_training_with_its_name_and_leaves_none_behind(run, tmp_path, rank):
    def kill(report: StepReport) -> None:
        if report.step == 3:
            victim = next(p for p in members() if p.environ()["RANK"] == str(rank))
            victim.kill()

    with pytest.raises(ProcessLost, match=rf"process {rank} of 2 of the training was killed by SIGKILL .*after step"):
        run("a", replace(SETTINGS, epochs=2000), on_step=kill)
    assert not members()
    assert not (tmp_path / "a" / "adapter" / ADAPTER_FILE).exists()


def test_what_should_stop_raises_ends_all_with_nothing_more_written(run, tmp_path):
    class Lost(Exception):
        pass

    reports: list[StepReport] = []

    def lost() -> bool:
        if len(reports) >= 2:
            raise Lost
        return False

    with pytest.raises(Lost):
        run("a", replace(SETTINGS, epochs=2000, checkpoint_steps=1000), on_step=reports.append, should_stop=lost)
    assert not members()
    assert list(tmp_path.glob("a/**/*.safetensors")) == []


def test_what_is_wrong_is_said_as_by_one_process(run, tmp_path):
    with pytest.raises(TrainingError, match="no adapter in"):
        run("a", start_adapter=tmp_path / "nothing")
    assert not members()


def test_processes_end_with_the_one_that_started_them(base, tmp_path):
    program = f"""
from dataclasses import replace
from pathlib import Path
from jobs.training import train
from tests.component.training.test_processes import SETTINGS
from tests.tiny import ROWS
out = Path({str(tmp_path)!r})
train(ROWS, Path({str(base)!r}), out / "adapter", out / "work", replace(SETTINGS, epochs=100000),
      on_step=lambda report: print(report.step, flush=True))
"""
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None and starter.stdout.readline() == "1\n"
        running = members()
        assert len(running) == 2
        starter.send_signal(signal.SIGKILL)
        starter.wait()
        wait_until_gone(running)
