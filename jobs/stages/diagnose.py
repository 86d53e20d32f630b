"""diagnose: the student answers its own training questions; those that it gets right too seldom are the hard cases.

The first round asks S_P without knowledge. Out of fold, each row is answered by a student that was trained on the other
folds only, so that what was merely memorised counts as hard. Further rounds ask the last S_E with the knowledge base as it is,
leaving out entries whose only source is the row itself.

Output: ``responses.jsonl`` {id, text, answer, correct, pass_rate}; the text is a wrong one where there is any.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from jobs.adapters import asdict_of, base_model_digest, load_adapter, offer_adapter, train_adapter, withdraw_adapter
from jobs.asking import ask_student, cut_off, rows_of, shuffled
from jobs.context import Context, LeaseLost
from jobs.rows import DataRow
from jobs.serving import as_diagnosed, request_for, retrieval
from jobs.stages.train_general import general_examples, shape
from method.methods import get_method
from services.common.errors import NesycdError

# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, OWN, CODE = False, False, ("asking.py", "serving.py", "adapters.py", "training")
_A_FOLD = 1_000_000
"""What a finished fold counts, in steps and rows: more than a fold can have."""


def relevant(context: Context) -> dict[str, Any]:
    spec, again = context.spec, context.round > 1
    reads = {"top_k", "mode", "kinds", "granularity", "gate"} if again else set()
    folds = {} if again or not spec.diagnose.folds else {
        "folds": spec.diagnose.folds, "base_digest": base_model_digest(context), "phase": asdict_of(spec.training.general),
        "recipe": get_method(spec.method).recipe("train-general"), **shape(context),
    }  # fmt: skip
    return {
        "seed": spec.seed, "samples": spec.diagnose.samples, "hard_below": spec.diagnose.hard_below,
        "knowledge": spec.knowledge.model_dump(mode="json", include=reads), "folds": folds,
        "max_new_tokens": spec.evaluate.max_new_tokens, "student": spec.student.model_dump(mode="json"),
    }  # fmt: skip


async def run(context: Context) -> dict[str, Any]:
    rows = rows_of(context, "train.jsonl")
    if context.round == 1 and context.spec.diagnose.folds:
        answered = await _out_of_fold(context, rows)
    else:
        adapter = context.augmented_adapter if context.round > 1 else context.general_adapter
        answered = await _answers(context, rows, adapter, "responses")
    responses = [_judged(one, context.spec.diagnose.hard_below) for one in answered]
    context.folder.write_jsonl("responses.jsonl", responses)
    truncated = [answer["truncated"] for one in answered for answer in one]
    return {
        "rows": len(rows), "correct": sum(r["correct"] for r in responses), "answers": len(truncated), "truncated": sum(truncated),
    }  # fmt: skip


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    total, correct = manifest["rows"], manifest["correct"]
    notes = [f"{total - correct} of {total} are hard cases"]
    share = manifest["truncated"] / max(1, manifest["answers"])
    notes += filter(None, [cut_off({"the answers": share}, context.spec.evaluate.max_new_tokens)])
    context.progress(total, total, note=", ".join(notes), force=True)


async def _answers(
    context: Context, rows: Sequence[DataRow], adapter: str, journal: str, *, note: str = ""
) -> list[list[dict[str, Any]]]:
    """All samples of the answers to each row, in order."""
    await load_adapter(context, adapter)
    samples, again = context.spec.diagnose.samples, context.round > 1

    def request(index: int) -> Any:
        row, sample = rows[index % len(rows)].row, index // len(rows)
        reading = retrieval(context, exclude_case=row.id) if again else None
        return request_for(context, row, adapter, retrieval=reading, decoding=as_diagnosed(context, sample))

    answers = await ask_student(context, journal, list(rows) * samples, request, note=note)
    return [answers[index :: len(rows)] for index in range(len(rows))]


async def _out_of_fold(context: Context, rows: Sequence[DataRow]) -> list[list[dict[str, Any]]]:
    answered: dict[str, list[dict[str, Any]]] = {}
    parts = folds(rows, context.spec.diagnose.folds, context.spec.seed)
    for number, mine in enumerate(parts):
        told, place = f"fold {number + 1} of {len(parts)}", f"work/fold-{number}"
        context.saved_before = number * _A_FOLD
        ids = {item.row.id for item in mine}
        if not context.folder.has(f"{place}/answered.jsonl"):
            examples = general_examples(context, [item.row for item in rows if item.row.id not in ids])
            train_adapter(context, examples, context.spec.training.general, place=place, note=told)
            adapter = await offer_adapter(context, f"{context.run_id}-fold-{number}", 1, place=place)
            _note_served(context, adapter)
            context.saved_before += _A_FOLD // 2
            try:
                answers = await _answers(context, mine, adapter, f"fold-{number}/responses", note=told)
            except LeaseLost:
                raise  # whoever goes on asks it
            except Exception:
                # Nobody comes back to a run that is cancelled, at work or in a queue; a next turn offers it again.
                with suppress(NesycdError):
                    await withdraw_adapter(context, adapter, stopping=True)
                raise
            # Before it counts as answered: a worker that is killed here offers it again and withdraws it.
            await withdraw_adapter(context, adapter)
            context.folder.write_jsonl(f"{place}/answered.jsonl", ({"answers": one} for one in answers))
        for one in context.folder.read_jsonl(f"{place}/answered.jsonl"):
            answered[one["answers"][0]["id"]] = one["answers"]
    _note_served(context, "")
    return [answered[item.row.id] for item in rows]


def _note_served(context: Context, adapter: str) -> None:
    """Keeps which fold's student is served: where this worker is lost and the run ends, another one has it forgotten."""
    context.store.progress(context.run_id, context.stage, context.round, context.lease.token, {"adapter": adapter})


def folds(rows: Sequence[DataRow], count: int, seed: int) -> list[list[DataRow]]:
    """Deals the rows into folds, each with its share of every task, decided by the seed; no fold is empty."""
    order = sorted(shuffled(rows, seed, "folds"), key=lambda item: item.row.task)
    parts = [order[number::count] for number in range(min(count, len(order)))]
    place = {item.row.id: index for index, item in enumerate(rows)}
    return [sorted(part, key=lambda item: place[item.row.id]) for part in parts]


def _judged(answers: Sequence[dict[str, Any]], hard_below: float) -> dict[str, Any]:
    shown = next((answer for answer in answers if not answer["correct"]), answers[0])
    rate = sum(answer["correct"] for answer in answers) / len(answers)
    return {
        "id": shown["id"], "text": shown["text"], "answer": shown["answer"], "correct": rate >= hard_below,
        "pass_rate": rate,
    }  # fmt: skip
