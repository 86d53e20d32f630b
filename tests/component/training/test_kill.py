"""A training process that is killed without warning and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.training import ADAPTER_FILE
from tests.tiny import make_tiny_model

# Slow steps, so that there is a moment to kill it in.
PROGRAM = """
import sys, time
from pathlib import Path
from jobs.training import TrainingSettings, train
from tests.tiny import ROWS
base, out, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
settings = TrainingSettings(rank=2, alpha=4, dropout=0.1, epochs=6, batch_size=2, checkpoint_steps=1, dtype="float32")
result = train(ROWS, base, out / "adapter", out / "work", settings, on_step=lambda report: time.sleep(pause))
print(result.resumed_from)
"""


def start(base: Path, out: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(base), str(out), str(pause)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> int:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return int(out)


def newest(work: Path) -> int:
    """The step of the newest checkpoint: old ones go, each before a busy machine lets us see it."""
    return max((int(folder.name.removeprefix("checkpoint-")) for folder in work.glob("checkpoint-*[0-9]")), default=0)


@pytest.mark.timeout(900)
def test_training_killed_twice_ends_with_the_bytes_of_one_left_alone(tmp_path):
    base = make_tiny_model(tmp_path / "tiny")
    assert finish(start(base, tmp_path / "whole")) == 0
    for kill_at in (4, 9):
        process = start(base, tmp_path / "parts", pause=0.05)
        deadline = time.monotonic() + 240
        while newest(tmp_path / "parts" / "work") < kill_at:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.communicate()
        assert not (tmp_path / "parts" / "adapter" / ADAPTER_FILE).exists()
    assert finish(start(base, tmp_path / "parts")) >= 9
    adapters = [(tmp_path / name / "adapter" / ADAPTER_FILE).read_bytes() for name in ("whole", "parts")]
    assert adapters[0] == adapters[1]
