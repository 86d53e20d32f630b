"""`make demo`: distils a small student with a knowledge base on this machine, and shows what it can do.

Everything it does is done with the `nesycd` command, and every command is printed, so that
what is seen here can be typed again.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FAMILIES = HERE / "families"


def nesycd(*arguments: str, capture: bool = False, show: bool = True) -> Any:
    """Runs a `nesycd` command.

    Args:
        arguments: Its arguments.
        capture: Return its standard output, read as JSON, instead of showing it.
        show: Print the command first.

    Raises:
        SystemExit: It failed; it has said why.
    """
    if show:
        print(f"\n$ nesycd {shlex.join(arguments)}", flush=True)
    done = subprocess.run(
        [Path(sys.executable).with_name("nesycd"), *arguments], stdout=subprocess.PIPE if capture else None, cwd=ROOT
    )
    if done.returncode != 0:
        sys.exit(done.returncode)
    return json.loads(done.stdout) if capture else None


def say(text: str) -> None:
    """A line of the story."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def edit_one_entry(knowledge_base: str) -> None:
    """Shows that an edited entry changes the next answer, then puts the entry back as it was."""
    say("Edit an entry, and the next answer changes; nothing is trained")
    fact = json.loads((FAMILIES / "expert_facts.jsonl").read_text().splitlines()[0])["text"]  # "Puffins have 2 legs."
    subject, _, rest = fact.partition(" have ")
    question = f"How many legs do 3 {subject.lower()} have?"
    nesycd("ask", question)
    found = nesycd("kb", "search", fact, "--kb", knowledge_base, "--top-k", "1", "--json", capture=True)
    entry = found["results"][0]["entry"]
    edited = f"{subject} have 8 legs."
    nesycd("kb", "edit", entry["name"], "--text", edited, "--reviewed", "--reason", "to see whether the answer follows")
    nesycd("ask", question)
    nesycd("kb", "rollback", entry["name"], str(entry["revision"]), "--reason", f"the truth again: {rest}")


def main() -> None:
    """The demo, from an empty folder to a question that anyone can ask."""
    begun = time.monotonic()
    say("Start everything on this machine: five services, a worker, Valkey, a stand-in for the paid teacher")
    nesycd("up")
    say("One run: prepare, rationalize, train-general, diagnose, extract, train-augmented, evaluate, publish")
    run_id = time.strftime("demo-%Y%m%d-%H%M%S")
    nesycd("run", str((FAMILIES / "demo.yaml").relative_to(ROOT)), "--id", run_id)
    run = nesycd("watch", run_id, "--json", capture=True, show=False)
    edit_one_entry(run["knowledge_base"])
    say("What it all comes to")
    nesycd("report", run_id)
    say(f"Done in {(time.monotonic() - begun) / 60:.1f} minutes")
    report = run["report_uri"].removeprefix("file://")
    print(f"The report:      {report}")
    print('Ask for yourself: .venv/bin/nesycd ask "How many legs do 10 weevils have?"')
    print("Correct it:       .venv/bin/nesycd kb search weevils, then .venv/bin/nesycd kb edit NAME")
    print("Stop everything:  .venv/bin/nesycd down")


if __name__ == "__main__":
    main()
