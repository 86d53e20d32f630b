"""rationalize: the teacher writes a rationale for each training row; one that ends in a wrong answer is asked again, then dropped.

Output: ``rationales.jsonl`` {id, rationale, answer, call, usage}, ``rejected.jsonl`` {id, reason, answer}.
"""

from __future__ import annotations

import math
from typing import Any

from nesycd.teacher.v1 import GenerateResponse

from jobs.asking import TEACHER_SHARD, ask_teacher, rows_of, teacher_request
from jobs.context import Context
from jobs.estimate.token_count import token_count
from jobs.spec import MOST_NEW_TOKENS
from jobs.stages.prepare import context_length
from method import prompts
from method.answers import split_rationale
from method.scoring import is_correct
from services.common.errors import FailedPrecondition, NesycdError, register_reason
from services.common.logs import get_logger

log = get_logger("nesycd.rationalize")

# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, OWN, CODE = True, False, ("asking.py",)

NO_RATIONALES = register_reason(
    "NO_RATIONALES",
    "The teacher gave no rationale with a right answer for any training row.",
    "Look at rejected.jsonl of the stage: the teacher may be too weak, cut off, or not the model that was meant.",
)

_FEW = 0.05
"""Share of the rationales that may be longer than an answer without a word about it."""


def relevant(context: Context) -> dict[str, Any]:
    teacher = context.spec.teacher
    return {
        "seed": context.spec.seed, "model": teacher.model, "temperature": teacher.temperature,
        "max_tokens": teacher.max_tokens, "samples": teacher.samples,
    }  # fmt: skip


async def run(context: Context) -> dict[str, Any]:
    rows = {item.row.id: item.row for item in rows_of(context, "train.jsonl")}

    def request(row_id: str, sample: int) -> Any:
        return teacher_request(context, prompts.rationale_messages(rows[row_id]), caller="rationalize", sample=sample)

    errors: list[NesycdError] = []

    def read(row_id: str, said: GenerateResponse | NesycdError, sample: int) -> tuple[dict[str, Any], bool]:
        if isinstance(said, NesycdError):
            errors.append(said)
            return {"id": row_id, "reason": said.reason, "answer": None}, False
        row = rows[row_id]
        rationale, answer = split_rationale(said.text)
        if not rationale.strip() or not is_correct(answer, row.answer, question=row.question):
            reason = "NO_ANSWER" if answer is None else "WRONG_ANSWER" if rationale.strip() else "NO_RATIONALE"
            return {"id": row_id, "reason": reason, "answer": answer, "call": said.call}, False
        usage = {"prompt_tokens": said.usage.prompt_tokens, "completion_tokens": said.usage.completion_tokens}
        return {"id": row_id, "rationale": rationale, "answer": answer, "call": said.call, "usage": usage}, True

    records = await ask_teacher(context, "rationales", list(rows), request, read, samples=context.spec.teacher.samples)
    good = [record for record in records if "rationale" in record]
    rejected = [record for record in records if "rationale" not in record]
    if not good:
        reasons = sorted({record["reason"] for record in rejected})
        context.folder.write_jsonl("rejected.jsonl", rejected)
        # A resumed run asks again: what the teacher answered is stored, what it failed at is not.
        context.folder.journal("rationales", TEACHER_SHARD).clear()
        if errors and all(reason.startswith("TEACHER_") for reason in reasons):
            raise errors[-1]
        raise FailedPrecondition(
            f"none of the teacher's {len(rows)} rationales can be used ({', '.join(reasons)})", reason=NO_RATIONALES
        )
    context.folder.write_jsonl("rationales.jsonl", good)
    context.folder.write_jsonl("rejected.jsonl", rejected)
    return {"accepted": len(good), "rejected": len(rejected)}


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    total = manifest["accepted"] + manifest["rejected"]
    note = f"{manifest['accepted']} of {total} rationales are right"
    if warning := _cut_off(context):
        log.warning(
            "answers_cut_off", run=context.run_id, max_new_tokens=context.spec.evaluate.max_new_tokens, why=warning
        )
        note += f"; {warning}"
    context.progress(total, total, note=note, force=True)


def _cut_off(context: Context) -> str:
    """What is wrong, and what to do, where many rationales are longer than the student's answers may be; "" where few are.

    A student that is cut off before its answer is wrong: nearly every row would be a hard case, and the teacher paid for it.
    """
    most = context.spec.evaluate.max_new_tokens
    good = context.folder.read_jsonl("rationales.jsonl")
    texts = [prompts.student_completion(record["rationale"], record["answer"]) for record in good]
    tokens = token_count(context.artifacts, context.spec.student.base_model, texts)
    lengths = sorted(tokens.of([text]) for text in texts)
    longer = sum(length > most for length in lengths)
    if longer <= _FEW * len(lengths):
        return ""
    enough = math.ceil(1.1 * lengths[math.ceil((1 - _FEW) * len(lengths)) - 1])
    limit = min(MOST_NEW_TOKENS, (context_length(context) or 2 * MOST_NEW_TOKENS) // 2)
    remedy = f"cancel the run and submit it anew with {enough}; no rationale is paid again"
    if enough > limit:
        longer_context = "" if limit == MOST_NEW_TOKENS else "a base model with a longer context, or "
        remedy = f"it may be {limit} at most: take {longer_context}a teacher that writes shorter"
    return (
        f"about {longer / len(lengths):.0%} are longer than an answer may be (evaluate.max_new_tokens: {most}), "
        f"so that the student is cut off before it answers: {remedy}"
    )


def rationales_of(context: Context) -> dict[str, str]:
    """The accepted rationales by row id; none where the method asks for none."""
    if "rationalize" not in context.inputs:
        return {}
    return {r["id"]: r["rationale"] for r in context.inputs["rationalize"].read_jsonl("rationales.jsonl")}
