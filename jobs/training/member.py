"""One of several processes of a training: `python -m jobs.training.member FOLDER`. `processes.py` starts it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore, destroy_process_group

from jobs.training.processes import JOB_FILE, MAY_WRITE, PATIENCE, RESULT_FILE, STOP, TOLD, read_job
from jobs.training.settings import TrainingError, TrainingStopped
from jobs.training.steps import train_rows
from jobs.training.team import Team
from services.common.errors import FailedPrecondition

_TELL_SECONDS = 0.2


class Starter:
    """The process that started this one, reached through its store."""

    def __init__(self) -> None:
        where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self._store = TCPStore(*where, is_master=False, wait_for_workers=False, timeout=PATIENCE)
        self._asked, self._told = 0, 0.0

    def tell(self, kind: str, what: Any) -> None:
        """Tells something: "alive", "step", "asks", "stopped" or "refused"."""
        self._told = time.monotonic()
        self._store.set(f"{TOLD}/{self._store.add(TOLD, 1)}", json.dumps([kind, what]))

    def says_stop(self) -> bool:
        """Whether the training is to save what it has and stop. Tells that this process is alive, too."""
        if time.monotonic() - self._told > _TELL_SECONDS:
            self.tell("alive", None)
        return self._store.check([STOP])

    def may_write(self) -> None:
        """Returns when this process may write; where it may not, it is ended."""
        self._asked += 1
        self.tell("asks", self._asked)
        self._store.wait([f"{MAY_WRITE}/{self._asked}"])
        self._store.delete_key(f"{MAY_WRITE}/{self._asked}")


def _end_with_starter() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="starter", daemon=True).start()


def main(folder: Path) -> None:
    """Takes its part in the training.

    Args:
        folder: Has the job; gets the result, from the first process.
    """
    _end_with_starter()
    starter = Starter()
    job = read_job(folder / JOB_FILE)
    try:
        team = Team(job.settings.processes, job.device)
    except FailedPrecondition as error:
        starter.tell("refused", error.message)
        return
    try:
        result = train_rows(
            job,
            team,
            on_step=lambda report: starter.tell("step", asdict(report)),
            should_stop=starter.says_stop,
            before_write=starter.may_write,
        )
        if team.rank == 0:
            (folder / RESULT_FILE).write_text(json.dumps(asdict(result)), encoding="utf-8")
    except TrainingStopped as stopped:
        if team.rank == 0:
            starter.tell("stopped", {"step": stopped.step, "total": stopped.total})
    except TrainingError as error:
        starter.tell("refused", str(error))
    destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
