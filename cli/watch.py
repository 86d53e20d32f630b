"""Watching: processes until they are ready, runs until they end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nesycd.runs.v1 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    Run,
    RunState,
    Stage,
    WatchRunRequest,
)
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli import client, weaviate
from cli.problems import Problem
from cli.stack import HOST, SERVICES, Stack
from method.conditions import CONDITIONS
from services.common.channel import DIRECT

FIRST_PATIENCE, LATER_PATIENCE = 5.0, 120.0
"""How long, in seconds, a runs service that does not answer is waited for: at first, and after it has answered."""

ENDED = (RUN_STATE_CANCELLED, RUN_STATE_FAILED, RUN_STATE_SUCCEEDED)


def to_json(message: Any) -> str:
    """A message as one line of JSON with the contract's field names."""
    return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)


def state_name(state: int) -> str:
    """RUN_STATE_FAILED as "failed"."""
    return RunState.Name(state).removeprefix("RUN_STATE_").lower()


def current_stage(run: Run) -> Stage | None:
    """The stage at which a run is, or at which it ended; None where it has none."""
    return next((s for s in run.stages if s.state != RUN_STATE_SUCCEEDED), run.stages[-1] if run.stages else None)


def succeeded(run: Run) -> bool:
    """Whether all of the run was done."""
    return run.state == RUN_STATE_SUCCEEDED


# --- processes


def health(stack: Stack) -> list[dict[str, Any]]:
    """Name, state, pid, uptime, address and readiness of each process. ready is None where it is not asked for."""
    options = stack.options()
    rows = [dict(row, address=None, ready=None) for row in stack.processes()]

    async def look(row: dict[str, Any]) -> None:
        name = str(row["name"])
        if options is not None and name in options.ports:
            row["address"] = f"{HOST}:{options.ports[name]}"
        if name in SERVICES:
            row["ready"] = row["state"] == "RUNNING" and await _serving(row["address"], client.FULL_NAMES[name])
        elif name == "weaviate":
            row["ready"] = row["state"] == "RUNNING" and await asyncio.to_thread(weaviate.ready, row["address"])

    async def look_at_all() -> None:
        await asyncio.gather(*(look(row) for row in rows))

    asyncio.run(look_at_all())
    return rows


async def _serving(address: str, service: str) -> bool:
    async with grpc.aio.insecure_channel(address, [DIRECT]) as channel:
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=3
            )
            return answer.status == health_pb2.HealthCheckResponse.SERVING
    return False


def until_ready(stack: Stack, console: Console, patience: float) -> None:
    """Waits until every process runs and every service is ready.

    Args:
        stack: The processes.
        console: Where to show progress.
        patience: Longest wait, in seconds.

    Raises:
        Problem: One does not get ready; the error holds the end of its log.
    """
    deadline = time.monotonic() + patience
    with console.status("Starting") as line:
        while True:
            rows = health(stack)
            waiting = [r["name"] for r in rows if r["state"] != "RUNNING" or r["ready"] is False]
            if rows and not waiting:
                return
            if time.monotonic() > deadline:
                name = waiting[0] if waiting else "supervisord"
                tail = stack.log_tail(name)
                raise Problem(
                    f"{name} is not ready after {patience:.0f} s. Its log, {stack.logs / name}.log, ends:\n{tail}"
                )
            line.update(f"Starting; waiting for {', '.join(waiting)}")
            time.sleep(0.3)


# --- runs


def follow(name: str, console: Console, *, quiet: bool = False) -> Run:
    """Shows a run's progress until it ends.

    A runs service that is restarted meanwhile is waited for.

    Args:
        name: `runs/{run}`.
        console: Where to show it.
        quiet: Show nothing.

    Returns:
        The run as it ended.

    Raises:
        grpc.aio.AioRpcError: There is no such run, or the runs service stays away.
    """
    progress = Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]:<6}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )
    seen = time.monotonic()
    patience = FIRST_PATIENCE
    bars: dict[tuple[int, str], Any] = {}
    last_line: dict[tuple[int, str], str] = {}

    def show(run: Run) -> None:
        for stage in run.stages:
            key = (stage.round, stage.name)
            if not stage.state:
                continue
            if key not in bars:
                bars[key] = progress.add_task(stage.name, total=None, unit="", note="")
            notes = [f"loss {stage.loss:.3f}"] if stage.HasField("loss") else []
            if stage.state == RUN_STATE_RUNNING and stage.HasField("seconds_left"):
                notes.append(f"{stage.seconds_left:.0f} s left")
            if stage.attempts > 1:
                notes.append(f"attempt {stage.attempts}")
            notes += ["reused"] if stage.reused else []
            notes += [stage.note] if stage.note else []
            done = stage.state == RUN_STATE_SUCCEEDED
            total = stage.total or (1 if done else None)
            progress.update(
                bars[key],
                total=total,
                completed=(total if done else stage.done),
                unit=stage.unit,
                note=" · ".join(notes),
            )
            if done:
                progress.stop_task(bars[key])
            if not console.is_terminal and not quiet:
                # A log file gets a line when a stage begins and when it ends.
                line = f"{stage.name}: {state_name(stage.state)}" + (f" ({stage.seconds:.0f} s)" if done else "")
                if last_line.get(key) != line:
                    last_line[key] = line
                    console.print(line, highlight=False)

    async def watch() -> Run:
        nonlocal seen, patience
        while True:
            try:
                async with client.stub("runs") as runs:
                    async for event in runs.WatchRun(WatchRunRequest(name=name)):
                        seen, patience = time.monotonic(), LATER_PATIENCE
                        show(event.run)
                        if event.run.state in ENDED:
                            return event.run
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() - seen > patience:
                    raise
            await asyncio.sleep(1)

    if quiet or not console.is_terminal:
        return asyncio.run(watch())
    with Live(progress, console=console, refresh_per_second=5):
        return asyncio.run(watch())


def print_end(run: Run, console: Console) -> None:
    """Says how a run ended, and what to do next."""
    if run.state == RUN_STATE_FAILED:
        console.print(f"[red]{run.name} failed[/red] in {run.error.stage or 'the beginning'}: ", end="")
        console.print(f"{run.error.message} [{run.error.reason}]", markup=False)
        console.print(f"Mend it and go on with `nesycd resume {run.name.removeprefix('runs/')}`.")
        return
    if run.state == RUN_STATE_CANCELLED:
        console.print(f"{run.name} was cancelled; `nesycd resume {run.name.removeprefix('runs/')}` goes on.")
        return
    table = Table("condition", "", "accuracy")
    told = list(CONDITIONS) + sorted(set(run.accuracy) - set(CONDITIONS))
    for condition, accuracy in ((c, run.accuracy[c]) for c in told if c in run.accuracy):
        title = CONDITIONS[condition].title if condition in CONDITIONS else ""
        table.add_row(condition, title, f"{accuracy:.1%}")
    console.print(table)
    student = run.adapter or "The base model"
    console.print(
        (f"{student} reads {run.knowledge_base}. " if run.knowledge_base else "")
        + f"The teacher cost ${run.cost_usd:.4f}."
    )
    console.print(f"Report: {run.report_uri.removeprefix('file://')}", soft_wrap=True)
