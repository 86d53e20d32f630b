"""`nesycd ask`: a question to the student."""

from __future__ import annotations

import time

import click
from nesycd.student.v1 import (
    ANSWER_MODE_ANSWER_ONLY,
    ANSWER_MODE_CASCADE,
    ANSWER_MODE_CHAIN_OF_THOUGHT,
    ANSWER_MODE_ZERO_SHOT,
    ANSWER_MODE_ZERO_SHOT_ANSWER,
    AnswerRequest,
    AnswerResponse,
    LoadAdapterRequest,
    Retrieval,
)
from rich.console import Console

from cli import client, knowledge, watch

out = Console()
err = Console(stderr=True)
_MODES = {
    "cot": ANSWER_MODE_CHAIN_OF_THOUGHT,
    "answer": ANSWER_MODE_ANSWER_ONLY,
    "zero-shot": ANSWER_MODE_ZERO_SHOT,
    "zero-shot-answer": ANSWER_MODE_ZERO_SHOT_ANSWER,
    "cascade": ANSWER_MODE_CASCADE,
}


@click.command()
@click.argument("question")
@click.option("--adapter", default="", help="adapters/NAME@VERSION, aliases/NAME or base. Default: aliases/production.")
@click.option("--kb", default="", help="The knowledge base to read. Default: the alias's.")
@click.option("--no-knowledge", is_flag=True, help="Answer from memory.")
@click.option("--top-k", type=click.IntRange(0, 20), default=0, help="At most this many entries.")
@click.option(
    "--gate", type=click.FloatRange(0, 1), default=0.0, help="Read nothing where the student is at least so sure."
)
@click.option(
    "--mode", type=click.Choice(list(_MODES)), default="cot", show_default=True,
    help="cot and cascade: a rationale, then the answer, in one step or in two; zero-shot: for a model that was not trained.",
)  # fmt: skip
@click.option("--json", "json_output", is_flag=True, help="Print JSON for a script.")
def ask(
    question: str, adapter: str, kb: str, no_knowledge: bool, top_k: int, gate: float, mode: str, json_output: bool
) -> None:
    """Ask the student a question."""
    retrieval = Retrieval(
        knowledge_base=knowledge.kb_name(kb) if kb else "", top_k=top_k, disabled=no_knowledge, gate=gate
    )
    begun = time.monotonic()
    request = AnswerRequest(question=question, adapter=adapter, retrieval=retrieval, mode=_MODES[mode])  # type: ignore[arg-type]
    if adapter.startswith("adapters/"):  # that of a run without an alias is in the artifact store only
        client.call("student", "LoadAdapter", LoadAdapterRequest(adapter=adapter), timeout=300)
    answer: AnswerResponse = client.call("student", "Answer", request, timeout=120)
    if json_output:
        click.echo(watch.to_json(answer))
        return
    out.print(answer.answer or "(no answer)", style="bold", markup=False)
    out.print(answer.rationale or answer.text, style="dim", markup=False)
    for entry in answer.entries:
        out.print(f"  read: {entry.text}", style="cyan", markup=False)
        out.print(f"        {entry.name}", style="dim", markup=False, soft_wrap=True)
    if answer.confidence:
        what = "read nothing" if answer.gated else "before it read" if answer.entries else "without knowledge"
        out.print(f"  {answer.confidence:.0%} sure, {what}", style="dim", markup=False)
    err.print(f"[dim]{answer.adapter}, {time.monotonic() - begun:.1f} s[/dim]")
