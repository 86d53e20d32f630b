"""diagnose: the student answers its own training questions; what it gets wrong are the hard cases.

The first round asks S_P without knowledge; further rounds ask the last S_E with the knowledge base as it is, leaving out
entries whose only source is the row itself.

Output: ``responses.jsonl`` {id, text, answer, correct, pass_rate}.
"""

from __future__ import annotations

from typing import Any

from jobs.adapters import load_adapter
from jobs.asking import ask_student, rows_of
from jobs.context import Context
from jobs.serving import request_for, retrieval

USES_TEACHER, OWN, CODE = False, False, ("asking.py", "serving.py")
_TEMPERATURE = 0.6
"""Where several samples are asked for: the paper's."""


def relevant(context: Context) -> dict[str, Any]:
    knowledge = context.spec.knowledge.model_dump(mode="json", include={"top_k", "mode"}) if context.round > 1 else {}
    return {
        "seed": context.spec.seed, "samples": context.spec.diagnose.samples, "knowledge": knowledge,
        "max_new_tokens": context.spec.evaluate.max_new_tokens, "student": context.spec.student.model_dump(mode="json"),
    }  # fmt: skip


async def run(context: Context) -> dict[str, Any]:
    rows = rows_of(context, "train.jsonl")
    again = context.round > 1
    adapter = context.augmented_adapter if again else context.general_adapter
    await load_adapter(context, adapter)
    samples = context.spec.diagnose.samples
    answered: list[list[dict[str, Any]]] = []
    for sample in range(samples):

        def request(index: int, sample: int = sample) -> Any:
            row = rows[index].row
            asked = request_for(
                context, row, adapter, retrieval=retrieval(context, exclude_case=row.id) if again else None
            )
            if samples > 1:
                asked.decoding.temperature = _TEMPERATURE
                asked.decoding.seed = context.spec.seed * 1000 + sample
            return asked

        answered.append(
            await ask_student(
                context, f"responses-{sample}", rows, request, first=sample * len(rows), total=samples * len(rows)
            )
        )
    responses = []
    for one in zip(*answered, strict=True):
        wrong = next((r for r in one if not r["correct"]), one[0])
        rate = sum(r["correct"] for r in one) / samples
        responses.append(
            {
                "id": wrong["id"],
                "text": wrong["text"],
                "answer": wrong["answer"],
                "correct": rate > 0.5,
                "pass_rate": rate,
            }
        )
    context.folder.write_jsonl("responses.jsonl", responses)
    return {"rows": len(rows), "correct": sum(r["correct"] for r in responses)}


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    total, correct = manifest["rows"], manifest["correct"]
    context.progress(total, total, note=f"{total - correct} of {total} are hard cases", force=True)
