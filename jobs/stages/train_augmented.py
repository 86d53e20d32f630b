"""train-augmented: the student learns to read: entries are retrieved for the training rows, by default never the row's own ones.

Output: ``retrieved.jsonl`` {id, entries}, ``counterfactuals.jsonl``, ``adapter/``, ``rows.jsonl``, ``history.jsonl``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nesycd.knowledge.v1 import BatchSearchEntriesRequest
from nesycd.teacher.v1 import GenerateResponse

from jobs.adapters import asdict_of, base_model_digest, fitting, serve_adapter, train_adapter
from jobs.asking import ask_teacher, read_json_answer, rows_of, shuffled, teacher_request
from jobs.clients import row_error
from jobs.context import Context
from jobs.serving import search_request
from jobs.stages.rationalize import rationales_of
from jobs.stages.train_general import shape
from jobs.utility import hard_of
from method import mixtures, prompts
from method.methods import get_method
from method.mixtures import Counterfactual
from method.prompts import Row
from services.common.errors import NesycdError

# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, OWN, CODE = True, False, ("adapters.py", "training", "asking.py", "serving.py", "utility.py")


def relevant(context: Context) -> dict[str, Any]:
    spec, recipe = context.spec, _recipe(context)
    of_recipe = {"paper": {"weights", "weigh_by", "answer_with_knowledge"}, "reader": {"counterfactual_share"}}
    asked = {"model", "temperature", "max_tokens"} if recipe == "reader" else set()
    return {
        "seed": spec.seed, "student": spec.student.model_dump(mode="json"), "base_digest": base_model_digest(context),
        "phase": asdict_of(spec.phase("train-augmented")), **shape(context),
        "recipe": recipe, "from_general": _starts_from_general(context),
        **spec.training.model_dump(mode="json", include=of_recipe.get(recipe, set())),
        **spec.knowledge.model_dump(mode="json", include={"top_k", "mode", "kinds", "granularity", "for_training"}),
        "teacher": spec.teacher.model_dump(mode="json", include=asked),
    }  # fmt: skip


def _recipe(context: Context) -> str:
    return get_method(context.spec.method).recipe("train-augmented", context.spec.training.recipe)


def _starts_from_general(context: Context) -> bool:
    return context.spec.training.start_from == "general" and "train-general" in context.inputs


async def run(context: Context) -> dict[str, Any]:
    spec, recipe = context.spec, _recipe(context)
    rows = [item.row for item in rows_of(context, "train.jsonl")]
    rationales = rationales_of(context)
    # What was retrieved first stays: an entry that somebody edits meanwhile must not change half of the rows.
    if not context.folder.has("retrieved.jsonl"):
        found = await _entries(context, rows)
        context.folder.write_jsonl("retrieved.jsonl", [{"id": i, "entries": texts} for i, texts in found.items()])
    entries = {r["id"]: r["entries"] for r in context.folder.read_jsonl("retrieved.jsonl")}
    share = spec.training.counterfactual_share if recipe == "reader" else 0.0
    changes = await _counterfactuals(context, rows, rationales, entries, share) if share else {}
    # Each round trains anew: what was hard in an earlier one is learnt again, not forgotten.
    examples = mixtures.build_rows(
        recipe, rows, rationales, entries=entries, hard_ids=hard_of(context), counterfactuals=changes,
        weights=spec.training.weights.model_dump() if recipe == "paper" else None, weigh_by=spec.training.weigh_by,
        answer_with_knowledge=spec.training.answer_with_knowledge, counterfactual_fraction=share, seed=spec.seed,
        descriptions=spec.student.task_descriptions, fit=fitting(context, rows, rationales),
    )  # fmt: skip
    start = context.inputs["train-general"].local("adapter") if _starts_from_general(context) else None
    kinds = {kind: count for kind in mixtures.KINDS if (count := sum(e.kind == kind for e in examples))}
    trained = train_adapter(context, examples, spec.phase("train-augmented"), start_adapter=start)
    return {"recipe": recipe, "counterfactuals": len(changes), "kinds": kinds, **trained}


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    await serve_adapter(context, context.run_id, context.round)
    steps = manifest["training"]["steps"]
    context.progress(steps, steps, unit="steps", force=True)


async def _entries(context: Context, rows: Sequence[Row]) -> dict[str, list[str]]:
    """Texts of the entries that each row is trained with, best first."""
    wanted = context.spec.knowledge.for_training
    if wanted == "none":
        return {row.id: [] for row in rows}
    return own_entries(context, rows) if wanted == "own" else await _retrieve(context, rows)


def own_entries(context: Context, rows: Sequence[Row]) -> dict[str, list[str]]:
    """The entries that each row itself led to, as the last extraction left them; none for a row that led to none."""
    found: dict[str, list[str]] = {row.id: [] for row in rows}
    kinds = {f"ENTRY_KIND_{kind.upper()}" for kind in (*context.spec.knowledge.kinds, "case")}
    snapshot = context.inputs["extract"].read_jsonl("entries.jsonl") if "extract" in context.inputs else []
    for entry in snapshot:
        if entry.get("status", "ENTRY_STATUS_ACTIVE") == "ENTRY_STATUS_ACTIVE" and entry.get("kind") in kinds:
            for case in {source.get("caseId", "") for source in entry.get("sources", ())} & found.keys():
                found[case].append(entry["text"])
    return {row_id: texts[: context.spec.knowledge.top_k] for row_id, texts in found.items()}


async def _retrieve(context: Context, rows: Sequence[Row]) -> dict[str, list[str]]:
    """What the student would be shown, leaving out the row's own entries."""
    messages = {row.id: BatchSearchEntriesRequest(row_id=row.id, request=search_request(context, row)) for row in rows}
    count = 0

    def came(_: Any) -> None:
        nonlocal count
        count += 1
        context.progress(count, len(rows), note="retrieves entries")

    results = await context.services.batch(
        context.services.knowledge.BatchSearchEntries, messages, what="knowledge", window=32, on_result=came
    )
    found = {}
    for row in rows:
        error = row_error(results[row.id])
        if error is not None:
            raise error
        found[row.id] = [result.entry.text for result in results[row.id].response.results]
    return found


async def _counterfactuals(
    context: Context, rows: Sequence[Row], rationales: dict[str, str], entries: dict[str, list[str]], share: float
) -> dict[str, Counterfactual]:
    """Rows whose knowledge the teacher changed, enough of them for their share of all rows."""
    by_id = {row.id: row for row in rows}
    usable = sorted(row.id for row in rows if rationales.get(row.id, "").strip())
    candidates = shuffled((i for i in usable if entries[i]), context.spec.seed, "counterfactual")
    # Some replies change nothing and are dropped, so a few more are asked for.
    wanted = candidates[: min(len(candidates), round(share * len(usable) * 1.25))]

    def request(row_id: str, sample: int) -> Any:
        messages = prompts.counterfactual_messages(by_id[row_id], entries[row_id])
        return teacher_request(
            context, messages, caller="counterfactual", sample=sample, schema=prompts.COUNTERFACTUAL_SCHEMA
        )

    def read(row_id: str, said: GenerateResponse | NesycdError, sample: int) -> tuple[dict[str, Any], bool]:
        if isinstance(said, NesycdError):
            return {"id": row_id, "reason": said.reason}, True
        change = read_change(by_id[row_id], entries[row_id], said.text)
        if change is None:
            return {"id": row_id, "reason": "UNCHANGED", "call": said.call}, True
        return {
            "id": row_id, "entries": list(change.entries), "rationale": change.rationale, "answer": change.answer, "call": said.call,
        }, True  # fmt: skip

    records = await ask_teacher(context, "counterfactuals", wanted, request, read)
    context.folder.write_jsonl("counterfactuals.jsonl", records)
    return {
        r["id"]: Counterfactual(r["id"], tuple(r["entries"]), r["rationale"], r["answer"])
        for r in records
        if "answer" in r
    }


def read_change(row: Row, entries: Sequence[str], text: str) -> Counterfactual | None:
    """What the teacher changed, or None where its reply cannot be used."""
    reply = read_json_answer(text)
    try:
        return mixtures.read_counterfactual(row, entries, reply) if reply else None
    except (KeyError, ValueError, TypeError):
        return None
