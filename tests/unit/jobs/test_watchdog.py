"""A worker whose stage hangs ends itself, wherever it hangs; one that works slowly, or sleeps, does not."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from jobs.watchdog import EXIT_STATUS, Watchdog

_SECONDS = 2  # a busy machine keeps a process waiting for a good part of a second
_PROGRAM = """
import asyncio, sys, threading, time
from jobs.watchdog import Watchdog

def told(where):
    print("told", where, flush=True)
{more}

def hang():
    {hang}

with Watchdog({seconds}, told) as watchdog:
    threading.Thread(target=time.sleep, args=(60,), name="lives-on", daemon=True).start()
    hang()
print("went on", flush=True)
"""


def _end(hang: str, more: str = "") -> tuple[int, str, str]:
    program = _PROGRAM.format(hang=hang, more=more, seconds=_SECONDS)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_a_hanging_line_is_named_the_stacks_of_all_threads_are_written_and_the_process_ends() -> None:
    status, told, log = _end("time.sleep(60)")
    assert status == EXIT_STATUS
    assert "in hang" in told and "went on" not in told
    assert "stage_stalled" in told + log
    assert log.count("most recent call first") >= 3 and "in hang" in log


def test_a_task_that_waits_for_ever_is_named_by_the_line_at_which_it_waits() -> None:
    inner = "\n    async def deep(): await asyncio.Event().wait()\n    async def top():\n        watchdog.loop = asyncio.get_running_loop()\n        await deep()\n    asyncio.run(top())"
    status, told, _ = _end(inner)
    assert status == EXIT_STATUS and "in wait" in told


def test_native_code_that_never_gives_the_interpreter_back_is_ended_too() -> None:
    # PyDLL keeps the interpreter's lock: no thread of Python can run any more.
    status, told, log = _end("import ctypes; ctypes.PyDLL(None).sleep(60)")
    assert status == 1 and "told" not in told
    assert "Timeout" in log and "in hang" in log


def test_a_redis_that_does_not_answer_does_not_keep_the_process_from_ending() -> None:
    # Were it waited for, the alarm would have ended the process.
    status, _, _ = _end("time.sleep(60)", "    time.sleep(60)")
    assert status == EXIT_STATUS


def test_a_stage_that_tells_something_goes_on() -> None:
    status, told, _ = _end("\n    for _ in range(30):\n        watchdog.beat()\n        time.sleep(0.1)")
    assert status == 0 and "went on" in told


def test_a_stage_may_say_that_it_is_in_a_long_call_and_is_watched_again_after_it() -> None:
    hang = (
        "\n    with watchdog.long_call(60):\n        time.sleep(3)\n    print('called', flush=True)\n    time.sleep(60)"
    )
    status, told, _ = _end(hang)
    assert status == EXIT_STATUS and "called" in told


def test_a_machine_that_slept_did_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("jobs.watchdog.time.monotonic", lambda: clock[0])
    told: list[str] = []
    monkeypatch.setattr(Watchdog, "_end", lambda self, idle: told.append("ended"))
    monkeypatch.setattr(Watchdog, "_arm", lambda self: None)  # it would end the tests where this machine is slow
    with Watchdog(1.0):
        for _ in range(3):
            clock[0] += 3600.0
            time.sleep(0.11)
    assert told == []
