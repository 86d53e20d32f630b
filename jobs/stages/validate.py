"""validate: whether a round was worth it, and whether its entries are.

The round's student answers the rows that were held out; where it gains less than ``least_gain`` over the round before, no
further round follows, and the better round's student is the one that is evaluated and published. Where the spec asks for it,
the utility of entries is measured on training rows, and those that harm are retired.

Output: ``answers.jsonl``, ``utility.jsonl`` (see `jobs.utility.tabulate`).
"""

from __future__ import annotations

from typing import Any

from jobs import utility
from jobs.adapters import load_adapter
from jobs.asking import ask_student, rows_of
from jobs.context import Context
from jobs.figures import rates
from jobs.knowledge import record_feedback
from jobs.serving import request_for, retrieval
from method.conditions import CONDITIONS
from method.methods import get_method
from method.statistics import bootstrap_interval

# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, OWN, CODE = False, False, ("asking.py", "serving.py", "utility.py", "figures.py")
_LESS = 1e-9
"""What two shares may differ by rounding."""


def relevant(context: Context) -> dict[str, Any]:
    spec = context.spec
    return {
        "seed": spec.seed, "mode": _mode(context), "least_gain": spec.least_gain,
        "max_new_tokens": spec.evaluate.max_new_tokens, "student": spec.student.model_dump(mode="json"),
        "knowledge": spec.knowledge.model_dump(mode="json", include={"top_k", "mode", "kinds", "granularity", "gate", "utility"}),
    }  # fmt: skip


def _mode(context: Context) -> str:
    """The form in which the method's student answers with knowledge."""
    headline = CONDITIONS[get_method(context.spec.method).headline]
    return headline.mode if headline.student == "augmented" else "cot"


async def run(context: Context) -> dict[str, Any]:
    rows = rows_of(context, "held_out.jsonl")
    adapter, mode, reading = context.augmented_adapter, _mode(context), retrieval(context)
    await load_adapter(context, adapter)
    answers = await ask_student(
        context, "held-out", rows, lambda i: request_for(context, rows[i].row, adapter, mode=mode, retrieval=reading),
        note="asks held-out rows",
    )  # fmt: skip
    context.folder.write_jsonl("answers.jsonl", answers)
    each = list(rates(answers).values())
    accuracy, low, high = bootstrap_interval(each) if each else (0.0, 0.0, 0.0)
    before = context.rounds.get(("validate", context.round - 1))
    gain = accuracy - (before.manifest() or {})["accuracy"] if before else None
    made = {"n": len(each), "accuracy": accuracy, "low": low, "high": high, "gain": gain,
            "enough": gain is None or gain >= context.spec.least_gain - _LESS}  # fmt: skip
    lines = []
    if context.spec.knowledge.utility.rows:
        lines = await utility.measure(context, adapter, mode)
        context.folder.write_jsonl("utility.jsonl", lines)
    return {**made, "measured": len(lines), "harmful": sum(line["retire"] for line in lines)}


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    notes = []
    if manifest["n"]:
        gained = "" if manifest["gain"] is None else f" ({manifest['gain']:+.1%})"
        notes.append(f"{manifest['accuracy']:.1%} of {manifest['n']} held-out rows{gained}")
    if manifest["measured"]:
        lines = context.folder.read_jsonl("utility.jsonl")
        retired = await utility.retire(context, lines)
        named = [{**line, "entry": f"{context.knowledge_base}/entries/{line['entry']}"} for line in lines]
        await record_feedback(context, named, "utility-")
        notes.append(f"{retired} of {len(lines)} entries retired")
    if not manifest["enough"] and context.round < context.spec.rounds:
        notes.append(f"the last round: it gained less than {context.spec.least_gain:.1%}")
        context.skip_rounds(f"round {context.round} gained less than {context.spec.least_gain:.1%}")
    context.progress(manifest["n"], manifest["n"], note=", ".join(notes), force=True)
