"""The `nesycd` command as people run it: a process of its own, in a home folder of its own, with a tiny student."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.tiny import make_tiny_model

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ROOT / "examples" / "families"
UP = ["up", "--base-model", "tiny", "--embedder", "none", "--dtype", "float32", "--standin", "--mode scripted"]


class Home:
    """A home folder and the command in it.

    Args:
        folder: Where all of it is.
        settings: Environment variables besides those of this process.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.base = folder
        self.folder = folder / "home"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("NESYCD_")}
        self.env |= {"NESYCD_HOME": str(self.folder), "COLUMNS": "200", "OMP_NUM_THREADS": "1", **settings}
        make_tiny_model(self.folder / "artifacts" / "models" / "tiny")

    def nesycd(
        self, *arguments: str, status: int | None = 0, patience: float = 200
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command; its exit status must be the given one (None: any)."""
        command = [str(Path(sys.executable).with_name("nesycd")), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=self.env, cwd=self.base, timeout=patience)
        assert "Traceback" not in done.stderr, done.stderr
        assert status is None or done.returncode == status, (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    @contextlib.contextmanager
    def up(self) -> Iterator[Home]:
        """Starts everything, and stops it at the end; no process may be left then."""
        try:
            self.nesycd(*UP)
            yield self
        finally:
            self.nesycd("down", status=None)
            left = [process.cmdline() for process in self.running()]
            assert not left, f"`nesycd down` left processes behind: {left}"

    def json(self, *arguments: str, status: int | None = 0) -> Any:
        """The JSON that a command prints with --json: nothing else may be on its standard output."""
        return json.loads(self.nesycd(*arguments, "--json", status=status).stdout)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs Python from the repository's root."""
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, env=self.env, cwd=ROOT, timeout=180
        )

    def processes(self) -> dict[str, dict[str, Any]]:
        """The rows of `nesycd status` by name."""
        return {row["name"]: row for row in self.json("status", status=None)}

    def running(self) -> Iterator[psutil.Process]:
        """Every process of this home, found by its environment."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("NESYCD_STACK") == str(self.folder):
                    yield process
            except psutil.Error:
                continue

    def address(self, name: str) -> str:
        """Where a process listens, host:port."""
        ports = json.loads((self.folder / "stack.json").read_text())["ports"]
        return f"127.0.0.1:{ports[name]}"

    def standin(self, path: str, **changes: Any) -> Any:
        """Asks the stand-in teacher; with changes, tells it what is to be wrong."""
        data = json.dumps(changes).encode() if changes else None
        request = urllib.request.Request(
            f"http://{self.address('standin')}{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def spec(self, name: str, *, train: int = 24, test: int = 9, **changes: Any) -> Path:
        """Writes a run spec of the example with a few rows of its data, and returns its path."""
        folder = self.base / name
        folder.mkdir(exist_ok=True)
        spec = yaml.safe_load((FAMILIES / "demo.yaml").read_text())
        for part, count in (("train", train), ("test", test)):
            rows = (FAMILIES / f"{part}.jsonl").read_text().splitlines()
            (folder / f"{part}.jsonl").write_text("\n".join(rows[:: len(rows) // count][:count]) + "\n")
        (folder / "expert.jsonl").write_text((FAMILIES / "expert_facts.jsonl").read_text())
        spec["data"] = {"train": "train.jsonl", "test": "test.jsonl", "expert": "expert.jsonl"}
        spec["student"]["base_model"] = "tiny"
        spec["evaluate"]["max_new_tokens"] = 16
        (folder / "spec.yaml").write_text(yaml.safe_dump({**spec, "name": name, **changes}))
        return folder / "spec.yaml"


def until(holds: Callable[[], Any], patience: float = 120, pause: float = 0.2) -> Any:
    """Waits until something holds, and returns what it gave."""
    deadline = time.monotonic() + patience
    while not (got := holds()):
        assert time.monotonic() < deadline, f"{holds} did not hold in {patience} s"
        time.sleep(pause)
    return got
