"""extract: what the student lacks goes into the run's knowledge base, case by case in the order of the rows.

Output: ``entries.jsonl`` (the knowledge base as it was then), ``cases.jsonl`` {id, entries, waiting, created, merged, leaked, attempts, error}; ``waiting`` are those of
the entries that repeat or contradict others, so that the student does not read them before a person has decided.
"""

from __future__ import annotations

import json
from typing import Any

from nesycd.extraction.v1 import (
    GRANULARITY_ATOMIC,
    GRANULARITY_CASE,
    BatchExtractKnowledgeRequest,
    ExtractionOptions,
    HardCase,
)
from nesycd.knowledge.v1 import ENTRY_STATUS_DRAFT

from jobs.asking import rows_of
from jobs.clients import row_error
from jobs.context import Context
from jobs.knowledge import ensure_knowledge_base, export_knowledge, import_knowledge
from services.common.errors import FailedPrecondition

# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, CODE = True, ("knowledge.py",)
OWN = False
_SHARD = 32


def relevant(context: Context) -> dict[str, Any]:
    knowledge, teacher = context.spec.knowledge, context.spec.teacher
    return {
        "seed": context.spec.seed, "granularity": knowledge.granularity, "show_gold_answer": knowledge.show_gold_answer,
        "model": teacher.model, "temperature": teacher.temperature,
        "index": _index(context), "left_out": _left_out(context),
        "task_descriptions": context.spec.student.task_descriptions,
        # A base that is shared with others has a history: what comes of it belongs to this run alone.
        "base": f"{knowledge.base} of {context.run_id}" if knowledge.base else "",
    }  # fmt: skip


def _index(context: Context) -> str:
    """What the index reads, the default named: two specs that say the same share what is extracted."""
    knowledge = context.spec.knowledge
    return knowledge.index or ("question" if knowledge.granularity == "case" else "text")


def _left_out(context: Context) -> list[str]:
    """The kinds that are not extracted. Atomic entries are all extracted, and left out where they are searched."""
    knowledge = context.spec.knowledge
    return sorted({"summary", "fact"} - set(knowledge.kinds)) if knowledge.granularity == "case" else []


async def run(context: Context) -> dict[str, Any]:
    await ensure_knowledge_base(context)
    responses = {r["id"]: r for r in context.inputs["diagnose"].read_jsonl("responses.jsonl")}
    rows = [item.row for item in rows_of(context, "train.jsonl") if not responses[item.row.id]["correct"]]
    spec = context.spec
    options = ExtractionOptions(
        knowledge_base=context.knowledge_base,
        granularity=GRANULARITY_CASE if spec.knowledge.granularity == "case" else GRANULARITY_ATOMIC,
        hide_gold_answer=not spec.knowledge.show_gold_answer, run=context.run_name, teacher_model=spec.teacher.model,
        run_budget_usd=spec.teacher.budget_usd, seed=spec.seed, temperature=spec.teacher.temperature,
        index_key=f"INDEX_KEY_{_index(context).upper()}",
        skip_summary="summary" in _left_out(context), skip_knowledge="fact" in _left_out(context),
    )  # fmt: skip
    # Each run has a journal of its own: what another one did before it was stopped lies in that one's knowledge base.
    # The teacher is not paid again for it.
    journal = context.folder.journal(f"cases/{context.run_id}", _SHARD)
    done = 0
    for number, indices in journal.shards(len(rows)):
        context.check()
        if journal.get(number) is None:
            # One stream a shard, the shards one after the other: entries are merged in the order of the rows, kill or not.
            messages = {
                rows[i].id: BatchExtractKnowledgeRequest(
                    hard_case=HardCase(
                        case_id=rows[i].id, task=rows[i].task, question=rows[i].question, gold_answer=rows[i].answer,
                        task_description=spec.student.task_descriptions.get(rows[i].task, ""),
                        student_response=responses[rows[i].id]["text"],
                    ),
                    options=options,
                )
                for i in indices
            }  # fmt: skip
            # Sent again whole after a failure: what is known already is merged, which changes nothing, and the order stays.
            results = await context.services.batch(
                context.services.extraction.BatchExtractKnowledge,
                messages,
                what="extraction",
                key=lambda m: m.case_id,
                whole=True,
            )
            journal.put(number, [_case(results[row_id], row_id) for row_id in messages])
            await context.usage()
        done += len(indices)
        context.progress(done, len(rows), saved=done)
    cases = journal.all(len(rows))
    reasons = sorted({case["error"]["reason"] if "error" in case else "" for case in cases})
    if cases and all(reason.startswith("TEACHER_") for reason in reasons):
        # A teacher that fails at every case is no teacher; a resumed run asks again.
        journal.clear()
        raise FailedPrecondition(
            f"the teacher failed at all {len(cases)} cases: {cases[0]['error']['message']}",
            reason=cases[0]["error"]["reason"],
        )
    context.folder.write_jsonl("cases.jsonl", cases)
    snapshot = await export_knowledge(context)
    context.folder.write("entries.jsonl", snapshot)
    failed = [case for case in cases if "error" in case]
    waiting = {name for case in cases for name in case.get("waiting", ())}
    return {
        "cases": len(cases), "failed_cases": len(failed), "entries": snapshot.count(b"\n"), "waiting": len(waiting),
    }  # fmt: skip


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    if manifest.get("run") != context.run_id:
        # Another run with the same inputs asked; its entries are this run's too, in a base of its own.
        await ensure_knowledge_base(context)
        own = context.folder.read("entries.jsonl")
        if own.strip():
            await import_knowledge(
                context,
                _renamed(own, context),
                "entries.jsonl",
                author="extraction",
                reason=f"as in run {manifest.get('run')}",
            )
    context.store.annotate(context.run_id, knowledge_base=context.knowledge_base)
    note = f"{manifest['entries']} entries from {manifest['cases']} cases"
    if manifest.get("waiting"):
        note += f", {manifest['waiting']} wait for a person: nesycd kb review"
    context.progress(manifest["cases"], manifest["cases"], note=note, force=True)


def _renamed(entries: bytes, context: Context) -> bytes:
    """The entries of a snapshot under this run's knowledge base."""
    lines = []
    for line in entries.decode("utf-8").split("\n"):
        if not line.strip():
            continue
        entry = json.loads(line)
        for name in ("name", "supersededBy"):
            if entry.get(name):
                entry[name] = f"{context.knowledge_base}/entries/{entry[name].rsplit('/', 1)[-1]}"
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    return "".join(lines).encode("utf-8")


def _case(result: Any, case_id: str) -> dict[str, Any]:
    error = row_error(result)
    if error is not None:
        return {"id": case_id, "entries": [], "error": {"reason": error.reason, "message": error.message}}
    said = result.response
    return {
        "id": case_id, "entries": [entry.name for entry in said.entries],
        "waiting": [entry.name for entry in said.entries if entry.status == ENTRY_STATUS_DRAFT],
        "created": said.created, "merged": said.merged, "leaked": said.leaked, "attempts": said.attempts, "call": said.teacher_call,
    }  # fmt: skip
