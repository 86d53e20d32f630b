"""Measures the stage `rationalize` with a slow teacher: `python -m bench.rationalize`.

Real processes: Valkey, the stand-in teacher (200 ms before every answer), the teacher proxy with 64 slots, a Celery worker.
What the slots allow is rows times latency through slots; the stage's time is the whole of it, from the first question asked to the
journal put together.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from examples.families.questions import FORMS, ask, load_facts, solve
from jobs.app import make_app, send_stage
from jobs.settings import Settings
from jobs.spec import Student, parse
from jobs.state import RunRecord, RunStore, connect
from tests.component.jobs.fakes import House
from tests.processes import Process, running, service, standin, valkey

BAR = 0.95
RUN = "bench"


def questions() -> Iterator[tuple[str, str, str]]:
    """Different questions of the example's families without end: task, question, answer."""
    number = 1
    while True:
        number += 1
        for family, forms in FORMS.items():
            for form in forms:
                if "{n}" not in form.template:
                    continue
                for fact in load_facts():
                    if fact.family == family:
                        question = ask(form, [fact], number)
                        solution = solve(question)
                        assert solution is not None
                        yield family, question, solution.answer


def write_rows(file: Path, count: int) -> None:
    """Writes so many training rows."""
    with file.open("w", encoding="utf-8") as out:
        for number, (task, question, answer) in zip(range(count), questions(), strict=False):
            out.write(json.dumps({"id": f"r{number}", "task": task, "question": question, "answer": answer}) + "\n")


def worker(folder: Path, redis_url: str, teacher: Process, student: str) -> Process:
    """A Celery worker for the stages that need no GPU."""
    env = {
        "NESYCD_JOBS_REDIS_URL": redis_url,
        "NESYCD_JOBS_ARTIFACTS_URL": f"file://{folder}/artifacts",
        "NESYCD_JOBS_TEACHER_ADDRESS": teacher.address,
        "NESYCD_JOBS_STUDENT_ADDRESS": student,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "celery", "-A", "jobs.app", "worker", "-P", "solo", "-Q", "nesycd.cpu"]
    command += ["-n", "bench@localhost", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return Process(command, folder / "worker.log", env)


def cpu_seconds(process: Process) -> float:
    """CPU that a process and its children have used."""
    assert process.popen is not None
    root = psutil.Process(process.popen.pid)
    return sum(sum(one.cpu_times()[:2]) for one in (root, *root.children(recursive=True)))


def main(given: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.rationalize", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="training rows (default: %(default)s)")
    parser.add_argument("--slots", type=int, default=64, help="of the teacher proxy (default: %(default)s)")
    # More than there are slots: a row is also on its way to the proxy and back.
    parser.add_argument("--concurrency", type=int, default=96, help="of the run spec (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.2, help="of the teacher, seconds (default: %(default)s)")
    arguments = parser.parse_args(given)
    # The stand-in writes each call to a file before it answers, one after the other: not the teacher that is meant here.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory(dir=memory) as log:
        folder = Path(scratch)
        broker = valkey(folder / "valkey")
        paid = standin(Path(log), "--latency", str(arguments.latency))
        redis_url = f"redis://{broker.address}/0"
        proxy = service(
            "teacher", folder / "teacher", upstream_url=f"http://{paid.address}", redis_url=f"redis://{broker.address}/1",
            slots=str(arguments.slots),
        )  # fmt: skip
        house = House({}).start()  # stage prepare asks which student is served
        works = worker(folder, redis_url, proxy, house.address)
        names = {"worker": works, "teacher proxy": proxy, "stand-in": paid, "Valkey": broker}
        with running(broker, paid, proxy, works):
            stage = measure(folder, redis_url, names, arguments)
        house.stop()
        calls = sum(1 for _ in (Path(log) / "calls.jsonl").open(encoding="utf-8"))
    allowed = arguments.rows * arguments.latency / arguments.slots
    share = allowed / stage["seconds"]
    print("| | |\n|---|---|")
    print(f"| rows, calls of the teacher | {arguments.rows}, {calls} |")
    print(f"| the slots allow | {allowed:.1f} s |")
    print(f"| the stage took | {stage['seconds']:.1f} s |")
    print(f"| achieved share (bar: {BAR:.0%}) | {share:.1%}{'' if share >= BAR else ' **below**'} |")
    for name in names:
        print(f"| CPU of {name} a row | {1000 * stage[name] / arguments.rows:.2f} ms |")


def measure(folder: Path, redis_url: str, names: dict[str, Process], arguments: argparse.Namespace) -> dict[str, float]:
    """Runs the stages up to rationalize; returns its seconds, and each process' CPU seconds meanwhile."""
    write_rows(folder / "train.jsonl", arguments.rows)
    write_rows(folder / "test.jsonl", 1)
    model = folder / "artifacts" / "models" / Student().base_model
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}", encoding="utf-8")  # prepare looks whether there is one
    spec = parse(
        {
            "name": RUN,
            "data": {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")},
            "teacher": {"concurrency": arguments.concurrency},
        }
    )
    store = RunStore(connect(redis_url), lease_seconds=30)
    store.create(RUN, spec.dump(), [("prepare", 1), ("rationalize", 1)])
    send_stage(make_app(Settings(redis_url=redis_url)), RUN, "prepare", 1)
    before: dict[str, float] = {}
    while True:
        record = store.get(RUN)
        assert record is not None
        if not before and record.stages[1].total:
            before = {name: cpu_seconds(process) for name, process in names.items()}
        if record.over:
            break
        time.sleep(0.1)
    spent = {name: cpu_seconds(process) - before[name] for name, process in names.items()}
    return {"seconds": seconds_of(folder, record), **spent}


def seconds_of(folder: Path, record: RunRecord) -> float:
    """What the stage's manifest says that it took."""
    if record.state != "SUCCEEDED":
        raise SystemExit(f"the run ended as {record.state}: {record.error}")
    manifest = folder / "artifacts" / "stages" / "rationalize" / record.stages[1].digest / "manifest.json"
    return float(json.loads(manifest.read_text(encoding="utf-8"))["seconds"])


if __name__ == "__main__":
    main()
