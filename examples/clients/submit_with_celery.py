"""Submits a run as a Celery task, from a program that knows nothing of NesyCD but a task's name.

Needs: pip install "celery[redis]" PyYAML

    python examples/clients/submit_with_celery.py redis://127.0.0.1:50060/0 examples/families/demo.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from celery import Celery


def submit(broker: str, spec_file: Path, run_id: str | None = None) -> str:
    """Sends the task `nesycd.run`.

    Args:
        broker: The Redis that the workers listen to.
        spec_file: A run spec; paths of data files in it count from its folder.
        run_id: An id of yours: submitting the same id twice makes one run. None: one is made.

    Returns:
        The run's name, `runs/{run}`; watch it with `nesycd watch` or RunService.WatchRun.
    """
    spec = yaml.safe_load(spec_file.read_text())
    spec["data"] = {
        key: value if "://" in value else str((spec_file.parent / value).resolve())
        for key, value in spec["data"].items()
    }
    app = Celery(broker=broker, backend=broker)
    result = app.send_task("nesycd.run", kwargs={"spec": spec, "run_id": run_id}, queue="nesycd.runs")
    return result.get(timeout=60)["run"]  # the spec is right and the run is queued; the run itself goes on


if __name__ == "__main__":
    print(submit(sys.argv[1], Path(sys.argv[2])))
