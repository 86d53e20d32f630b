"""`nesycd compare`: several methods on one spec, as runs that share all stages that they have in common."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import grpc
from google.protobuf import json_format
from nesycd.runs.v1 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    CompareRunsRequest,
    CreateRunRequest,
    GetRunRequest,
    ResumeRunRequest,
    Run,
)
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cli import client, watch
from cli.methods import for_method, method_of, methods_of, part, run_id_of, seeds_of, split
from cli.problems import Problem, explain
from cli.specs import load_spec, run_name, to_struct
from method.methods import Method, all_methods
from services.common.errors import NesycdError, from_rpc_error
from services.common.numbers import whole_numbers

out = Console()
err = Console(stderr=True)
MOST_RUNS = 256
DEFAULT_BASELINE = "std-cot"


@dataclass
class Contestant:
    """One run of a comparison.

    Attributes:
        method: Its method.
        seed: Its seed.
        run: As it stands; None: it was not submitted.
        problem: Why not.
    """

    method: Method
    seed: int
    run: Run | None = None
    problem: str = ""


@click.command()
@click.argument("spec_file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--methods", default="", help='Names with commas between; "all", or patterns such as "nesycd-k*".')
@click.option("--seeds", default="", help="Seeds with commas between. Default: the spec's.")
@click.option("--runs", "run_names", default="", help="Compare runs that are there, instead: ids with commas between.")
@click.option("--baseline", default="", help="The method (or run) that the others are compared with. Default: std-cot.")
@click.option(
    "--out", "out_file", default="comparison.html", show_default=True, type=click.Path(dir_okay=False, path_type=Path),
    help="The page; the same as Markdown lies beside it.",
)  # fmt: skip
@click.option("--json", "json_output", is_flag=True, help="Print the figures as JSON.")
def compare(
    spec_file: Path | None, methods: str, seeds: str, run_names: str, baseline: str, out_file: Path, json_output: bool
) -> None:  # fmt: skip
    """Run several methods on SPEC_FILE, and compare them on the same test rows.

    Stages that runs have in common are done once. The same command again takes up what is there.
    """
    if bool(spec_file) == bool(run_names):
        raise click.UsageError("give a spec file, or --runs")
    if spec_file is None:
        names = [run_name(name) for name in split(run_names)]
        _tell(names, run_name(baseline) if baseline else "", out_file, json_output)
        return
    if not methods:
        raise click.UsageError(f"name the methods with --methods: all, or some of {', '.join(all_methods())}")
    chosen = methods_of(methods)
    against = method_of(baseline) if baseline else None
    if against and against not in chosen:
        raise Problem(f"--baseline {baseline} is not among the methods {', '.join(m.name for m in chosen)}")
    spec = load_spec(spec_file)
    contestants = [Contestant(m, s) for m in chosen for s in seeds_of(seeds, spec)]
    if len(contestants) < 2:
        raise Problem(
            f"a comparison needs two runs, and this would be {len(contestants)}: name more --methods, or more --seeds"
        )
    if len(contestants) > MOST_RUNS:
        raise Problem(f"{len(chosen)} methods with {len(contestants) // len(chosen)} seeds are {len(contestants)} runs; at most {MOST_RUNS} are compared")  # fmt: skip
    try:
        # The longest first: what the others have in common with it is there when they need it.
        for one in sorted(contestants, key=lambda c: -len(c.method.stages)):
            _submit(one, spec, spec_file)
        asyncio.run(_follow([c for c in contestants if c.run], quiet=json_output))
    except KeyboardInterrupt:
        err.print(
            "The runs go on. The same command again shows them and compares them at their end; `nesycd runs` lists them."
        )
        sys.exit(130)
    missing = [c for c in contestants if c.run is None or c.run.state != RUN_STATE_SUCCEEDED]
    for one in missing:
        err.print(f"{_label(one)}: {_why(one)}", markup=False, soft_wrap=True)
    done = [c for c in contestants if c not in missing]
    if len(done) < 2:
        raise Problem(f"{len(done)} of {len(contestants)} runs succeeded; two are needed for a comparison")
    wanted = against.name if against else DEFAULT_BASELINE
    base = next((c for c in done if c.method.name == wanted), None)
    if against and base is None:
        err.print(f"The baseline {wanted} has no run that succeeded; {done[0].method.name} takes its place.")
    chief = (base or done[0]).run
    _tell([c.run.name for c in done if c.run], chief.name if chief else "", out_file, json_output)
    if missing:
        sys.exit(1)


# --- submitting and watching


def _submit(one: Contestant, spec: Mapping[str, Any], file: Path) -> None:
    """Submits a run, or takes up the one that is there."""
    mine = {**for_method(spec, one.method), "seed": one.seed}
    # A comparison publishes nothing, and no method writes into the knowledge base of another.
    mine["publish"] = {**part(mine, "publish"), "alias": ""}
    mine["knowledge"] = {**part(mine, "knowledge"), "base": ""}
    try:
        checked = client.call("runs", "CreateRun", CreateRunRequest(spec=to_struct(mine, file), validate_only=True)).run
        run_id = run_id_of(whole_numbers(json_format.MessageToDict(checked.spec)))
        try:
            one.run = client.call("runs", "CreateRun", CreateRunRequest(spec=checked.spec, run_id=run_id)).run
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise
            one.run = client.call("runs", "GetRun", GetRunRequest(name=run_name(run_id))).run
            if one.run.state in (RUN_STATE_FAILED, RUN_STATE_CANCELLED):
                one.run = client.call("runs", "ResumeRun", ResumeRunRequest(name=one.run.name)).run
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            raise
        one.problem = explain(from_rpc_error(error))
    except NesycdError as error:
        one.problem = explain(error)


async def _follow(contestants: Sequence[Contestant], *, quiet: bool) -> None:
    """Shows all runs until they have ended."""
    seen, patience = time.monotonic(), watch.FIRST_PATIENCE
    said: dict[str, str] = {}
    show = Live(_table(contestants), console=err, refresh_per_second=4) if err.is_terminal and not quiet else None
    with show or contextlib.nullcontext():
        while going := [c for c in contestants if c.run and c.run.state not in watch.ENDED]:
            try:
                async with client.stub("runs") as runs:
                    while going := [c for c in contestants if c.run and c.run.state not in watch.ENDED]:
                        for one in going:
                            assert one.run is not None
                            one.run = (await runs.GetRun(GetRunRequest(name=one.run.name), timeout=30)).run
                        seen, patience = time.monotonic(), watch.LATER_PATIENCE
                        if show:
                            show.update(_table(contestants))
                        elif not quiet:
                            _say_changes(contestants, said)
                        await asyncio.sleep(1)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() - seen > patience:
                    raise
            await asyncio.sleep(1)


def _table(contestants: Sequence[Contestant]) -> Table:
    table = Table("run", "seed", "state", "stage", "done", "", box=None)
    for one in contestants:
        assert one.run is not None
        stage = watch.current_stage(one.run)
        over = one.run.state in watch.ENDED
        share = f"{stage.done / stage.total:.0%}" if stage and stage.total and not over else ""
        place = list(one.run.stages).index(stage) + 1 if stage else 0
        told = "" if over or not stage else f"{stage.name} ({place} of {len(one.run.stages)})"
        note = f"{'reused' if stage and stage.reused else ''} {stage.note if stage and not over else ''}".strip()
        if over:
            headline = one.run.accuracy.get(one.method.headline)
            note = one.run.error.reason or (f"{headline:.1%} right" if headline is not None else "")
        table.add_row(one.method.name, str(one.seed), watch.state_name(one.run.state), told, share, escape(note[:60]))
    return table


def _say_changes(contestants: Sequence[Contestant], said: dict[str, str]) -> None:
    """A log file gets a line when a run's state or stage changes."""
    for one in contestants:
        assert one.run is not None
        stage = "" if one.run.state in watch.ENDED else getattr(watch.current_stage(one.run), "name", "")
        line = f"{_label(one)}: {watch.state_name(one.run.state)} {stage}"
        if said.get(one.run.name) != line:
            said[one.run.name] = line
            err.print(line.rstrip(), highlight=False, markup=False)


def _label(one: Contestant) -> str:
    return f"{one.method.name}, seed {one.seed}"


def _why(one: Contestant) -> str:
    if one.run is None:
        return f"not submitted: {one.problem}"
    if one.run.state == RUN_STATE_FAILED:
        return f"{one.run.name} failed in {one.run.error.stage or 'the beginning'}: {one.run.error.message} [{one.run.error.reason}]"
    return f"{one.run.name} was {watch.state_name(one.run.state)}"


# --- the end


def _tell(names: Sequence[str], baseline: str, file: Path, json_output: bool) -> None:
    """Compares runs, writes the pages and prints the table."""
    answer = client.call("runs", "CompareRuns", CompareRunsRequest(names=names, baseline=baseline), timeout=600)
    # Only these endings are taken away: "llama-3.1" has none.
    stem = file.with_suffix("") if file.suffix in (".html", ".md") else file
    page, text = stem.with_name(f"{stem.name}.html"), stem.with_name(f"{stem.name}.md")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(answer.html, encoding="utf-8")
    text.write_text(answer.markdown, encoding="utf-8")
    figures = json_format.MessageToDict(answer.figures)
    if json_output:
        click.echo(json.dumps(whole_numbers(figures)))
        return
    table = Table(
        "method",
        "n",
        "right, 95 % interval",
        f"mean of {figures['kind']}s",
        "difference, points",
        "p (Holm)",
        "teacher",
        "seconds",
    )
    costs = {cost["title"]: cost for cost in figures["costs"]}
    for row in figures["rows"]:
        if not row["headline"]:
            continue
        cost, difference = costs[row["title"]], row["difference"]
        seeds = f" ±{row['spread']['deviation'] * 100:.1f} over {len(row['seeds'])} seeds" if row["spread"] else ""
        against = (
            f"{difference['mean'] * 100:+.1f} [{difference['low'] * 100:+.1f}, {difference['high'] * 100:+.1f}]"
            if difference
            else "baseline"
        )
        p = "" if not difference else "under 0.001" if difference["p_holm"] < 0.001 else f"{difference['p_holm']:.2g}"
        table.add_row(
            escape(row["title"]), f"{row['n']:.0f}", f"{row['accuracy']:.1%} [{row['low']:.0%}, {row['high']:.0%}]{seeds}", f"{row['average']:.1%}",
            against, p, f"${cost['cost_usd']:.4f}", f"{cost['seconds']:.0f}",
        )  # fmt: skip
    out.print(table)
    total = figures["total"]
    out.print(
        f"All together: {total['once']['calls']:,.0f} teacher calls, ${total['once']['cost_usd']:.4f}; without sharing stages "
        f"{total['apart']['calls']:,.0f} calls, ${total['apart']['cost_usd']:.4f}.", highlight=False,
    )  # fmt: skip
    out.print(f"Pages: {page.resolve()} and {text.name}", soft_wrap=True, highlight=False)
