"""`nesycd`: starts the system on one machine, submits runs, asks the student, edits the knowledge base."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from google.protobuf import json_format
from nesycd.runs.v1 import CancelRunRequest, CreateRunRequest, GetRunRequest, ListRunsRequest, ResumeRunRequest
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from cli import client, doctor, knowledge, watch
from cli.ask import ask
from cli.compare import compare
from cli.data import data
from cli.plan import plan
from cli.problems import Group, Problem
from cli.specs import load_spec, run_name, to_struct
from cli.stack import Options, Stack

out = Console()
err = Console(stderr=True)
as_json = click.option("--json", "json_output", is_flag=True, help="Print JSON for a script.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nesycd")
def main() -> None:
    """Distil a small student from a large teacher, with a knowledge base that people edit."""


main.add_command(knowledge.kb)
main.add_command(doctor.doctor)
main.add_command(ask)
main.add_command(compare)
main.add_command(data)
main.add_command(plan)


# --- the system on this machine


@main.command()
@click.option("--base-model", help="The student's base model, a folder in artifacts/models.")
@click.option(
    "--embedder", type=click.Choice(["minilm", "none"]), help="none: the knowledge base is searched by words only."
)
@click.option(
    "--knowledge",
    "store",
    type=click.Choice(["embedded", "weaviate"]),
    envvar="NESYCD_KNOWLEDGE_STORE",
    help="Where entries are kept; weaviate: the server of NESYCD_KNOWLEDGE_WEAVIATE_URL, else one that is started here.",
)
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), help="Number format of the student.")
@click.option(
    "--teacher-url",
    help="A real teacher's OpenAI-compatible endpoint; its key is read from NESYCD_TEACHER_UPSTREAM_API_KEY.",
)
@click.option("--standin", help='Flags of the stand-in teacher, for instance "--mode replay --replay rows.jsonl".')
@click.option("--wait", default=180, show_default=True, help="Longest wait until all is ready, in seconds.")
def up(
    base_model: str | None,
    embedder: str | None,
    store: str | None,
    dtype: str | None,
    teacher_url: str | None,
    standin: str | None,
    wait: int,
) -> None:
    """Start everything on this machine. Safe to repeat."""
    stack = Stack()
    options = stack.options() or Options()
    if base_model:
        options.base_model = base_model
    if embedder:
        options.embedder = embedder
    exported_weaviate = os.environ.get("NESYCD_KNOWLEDGE_WEAVIATE_URL", "")
    if store:
        options.knowledge, options.weaviate_url = store, exported_weaviate if store == "weaviate" else ""
    elif options.knowledge == "weaviate" and exported_weaviate:
        options.weaviate_url = exported_weaviate
    if dtype:
        options.dtype = dtype
    if standin is not None:
        try:
            options.standin = shlex.split(standin)
        except ValueError as error:
            raise click.BadParameter(f"{standin!r}: {error}", param_hint="--standin") from error
        options.teacher_url = ""
    if teacher_url or (standin is None and (teacher_url := os.environ.get("NESYCD_TEACHER_UPSTREAM_URL"))):
        options.teacher_url = teacher_url
    stack.start(options, say=lambda text: err.print(f"[dim]{text}[/dim]"))
    watch.until_ready(stack, err, wait)
    err.print(f"Everything runs. State and logs: {stack.folder}")


@main.command()
def down() -> None:
    """Stop everything on this machine. Data is kept."""
    stack = Stack()
    with err.status("Stopping; a run that is going on is kept and goes on after `nesycd up`"):
        count = stack.stop()
    err.print("Stopped." if count else "Nothing was running.")


@main.command()
@as_json
def status(json_output: bool) -> None:
    """What runs here, and whether it is ready."""
    rows = watch.health(Stack())
    if json_output:
        click.echo(json.dumps(rows))
    else:
        table = Table("process", "state", "ready", "address", "pid", "up")
        for row in rows:
            ready = {True: "[green]yes[/green]", False: "[red]no[/red]", None: "-"}[row["ready"]]
            table.add_row(
                row["name"], row["state"], ready, row["address"] or "-", str(row["pid"] or "-"), f"{row['uptime']} s"
            )
        out.print(table if rows else f"Nothing runs in {Stack().folder}; start it with `nesycd up`.")
    if not rows or any(row["ready"] is False or row["state"] != "RUNNING" for row in rows):
        sys.exit(1)


# --- runs


@main.command()
@click.argument("spec_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "run_id", default="", help="Id of the run; one is made where none is given.")
@click.option("--detach", is_flag=True, help="Return when it is submitted.")
@click.option("--check", is_flag=True, help="Only check the spec, and say what of it has no effect.")
@as_json
def run(spec_file: Path, run_id: str, detach: bool, check: bool, json_output: bool) -> None:
    """Submit a run described by SPEC_FILE, and watch it."""
    spec = to_struct(load_spec(spec_file), spec_file)
    answer = client.call("runs", "CreateRun", CreateRunRequest(spec=spec, run_id=run_id, validate_only=check))
    made = answer.run
    for note in answer.notes:
        err.print(note, highlight=False, markup=False, soft_wrap=True)
    if check:
        click.echo(json_format.MessageToJson(made.spec) if json_output else f"{spec_file} is a valid run spec.")
        return
    if detach:
        click.echo(watch.to_json(made) if json_output else made.name)
        return
    end(watch.follow(made.name, err, quiet=json_output), json_output)


def end(run: Any, json_output: bool) -> None:
    """Says how a run ended; its exit status is 0 for success only."""
    if json_output:
        click.echo(watch.to_json(run))
    else:
        watch.print_end(run, out)
    if not watch.succeeded(run):
        sys.exit(1)


@main.command("watch")
@click.argument("run_id")
@as_json
def watch_command(run_id: str, json_output: bool) -> None:
    """Watch a run until it ends. Ctrl-C leaves it running."""
    end(watch.follow(run_name(run_id), err, quiet=json_output), json_output)


@main.command()
@click.argument("run_id")
def cancel(run_id: str) -> None:
    """Stop a run; what it has made is kept. `nesycd resume` takes it up again."""
    made = client.call("runs", "CancelRun", CancelRunRequest(name=run_name(run_id))).run
    err.print(f"{made.name} is {watch.state_name(made.state)}.")


@main.command()
@click.argument("run_id")
@as_json
def resume(run_id: str, json_output: bool) -> None:
    """Take up a failed or cancelled run again from where it was, and watch it."""
    client.call("runs", "ResumeRun", ResumeRunRequest(name=run_name(run_id)))
    end(watch.follow(run_name(run_id), err, quiet=json_output), json_output)


@main.command()
@as_json
def runs(json_output: bool) -> None:
    """The runs, newest first."""
    response = client.call("runs", "ListRuns", ListRunsRequest(page_size=100))
    if json_output:
        click.echo(json.dumps([json_format.MessageToDict(r, preserving_proto_field_name=True) for r in response.runs]))
        return
    table = Table("run", "state", "stage", "submitted (UTC)", "cost", box=None, pad_edge=False)
    table.columns[0].no_wrap, table.columns[0].overflow = True, "fold"  # a name that is cut is of no use
    for item in response.runs:
        stage = getattr(watch.current_stage(item), "name", "")
        made = item.create_time.ToDatetime().isoformat(" ", "minutes")
        name = item.name.removeprefix("runs/")
        table.add_row(name, watch.state_name(item.state), stage, made, f"${item.cost_usd:.4f}")
    out.print(table)


@main.command()
@click.argument("run_id", required=False)
@as_json
def report(run_id: str | None, json_output: bool) -> None:
    """Show a run's report (the newest run's where none is named)."""
    if run_id is None:
        newest = client.call("runs", "ListRuns", ListRunsRequest(page_size=100)).runs
        done = next((r for r in newest if r.report_uri), None)
        if done is None:
            raise Problem("no run has a report yet; see `nesycd runs`")
        found = done
    else:
        found = client.call("runs", "GetRun", GetRunRequest(name=run_name(run_id))).run
    if not found.report_uri:
        raise Problem(f"{found.name} has no report: it is {watch.state_name(found.state)}")
    if json_output:
        click.echo(json.dumps({"run": found.name, "report": found.report_uri, "accuracy": dict(found.accuracy)}))
        return
    path = found.report_uri.removeprefix("file://")
    text = Path(path).with_suffix(".md")
    if text.exists():
        out.print(Markdown(text.read_text()))
    out.print(f"With pictures: {path}", soft_wrap=True)


if __name__ == "__main__":
    main()
