"""evaluate: the student service answers the test rows under each condition of the spec, in this order:

* ``zero_shot``: the base model; ``general``: S_P without knowledge; ``augmented``: S_E with the run's knowledge base.
* ``shuffled``: the control: S_E is given the entries that ``augmented`` found for another row.
* ``imported``: the expert's file is imported, and S_E answers again. The knowledge base is not the same afterwards, so
  ``augmented`` is complete before.
* ``edited``: the teacher changes an entry that an answer needs; counted is how many answers follow.

Output: ``answers.<condition>.jsonl``, ``edits.jsonl``, ``summary.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nesycd.knowledge.v1 import RecordFeedbackRequest
from nesycd.teacher.v1 import GenerateResponse

from jobs.adapters import load_adapter
from jobs.asking import ask_student, ask_teacher, rows_of, shuffled, teacher_request
from jobs.context import Context
from jobs.knowledge import import_knowledge
from jobs.rows import DataRow
from jobs.serving import request_for, retrieval
from jobs.stages.prepare import expert_file
from jobs.stages.train_augmented import read_change
from method import prompts
from method.mixtures import Counterfactual
from method.statistics import bootstrap_interval, mcnemar, paired_difference
from services.common.errors import NesycdError

# Asked anew for each run: what is evaluated is this run's knowledge base and what is served.
USES_TEACHER, OWN, CODE = True, True, ("asking.py", "serving.py", "knowledge.py")
ORDER = ("zero_shot", "general", "augmented", "shuffled", "imported", "edited")
_COMPARED = (
    ("general", "zero_shot"), ("augmented", "general"), ("augmented", "shuffled"), ("shuffled", "general"),
    ("imported", "general"), ("imported", "augmented"),
)  # fmt: skip


def relevant(context: Context) -> dict[str, Any]:
    spec = context.spec
    return {
        "seed": spec.seed, "evaluate": spec.evaluate.model_dump(mode="json"),
        "student": spec.student.model_dump(mode="json"),
        "knowledge": spec.knowledge.model_dump(mode="json", include={"base", "top_k", "mode"}),
    }  # fmt: skip


def conditions_of(context: Context) -> list[str]:
    """The conditions that the spec wants and the method has, in order."""
    possible = {"zero_shot"}
    if "train-general" in context.inputs:
        possible.add("general")
    if "train-augmented" in context.inputs:
        possible |= {"augmented", "shuffled", "edited"} | ({"imported"} if context.spec.data.expert else set())
    wanted = set(context.spec.evaluate.conditions) & possible
    if "shuffled" in wanted:
        wanted.add("augmented")  # whose entries are shuffled
    if "edited" in wanted and not wanted & {"augmented", "imported"}:
        wanted.add("augmented")
    return [condition for condition in ORDER if condition in wanted]


async def run(context: Context) -> dict[str, Any]:
    evaluation = _Evaluation(context)
    for condition in evaluation.conditions:
        await getattr(evaluation, condition)()
    summary = summarise(evaluation.answers, evaluation.import_told)
    context.folder.write("summary.json", json.dumps(summary, indent=2, ensure_ascii=False).encode())
    return {"accuracy": {name: part["accuracy"] for name, part in summary["conditions"].items()}}


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    summary = json.loads(context.folder.read("summary.json"))
    # Counted once, however often this is done: the request has an id.
    feedback = [
        RecordFeedbackRequest.Feedback(entry=e["name"], used=e["used"], helpful=e["helped"], harmful=e["harmed"])
        for e in summary["entries"]
        if e["name"]
    ]
    for start in range(0, len(feedback), 500):
        request = RecordFeedbackRequest(
            parent=context.knowledge_base, feedback=feedback[start : start + 500],
            request_id=f"{context.run_id}-{context.folder.digest[:12]}-{start}",
        )  # fmt: skip
        await context.services.call(context.services.knowledge.RecordFeedback, request, what="knowledge")
    context.store.annotate(context.run_id, accuracy=manifest["accuracy"])
    total = sum(part["n"] for part in summary["conditions"].values())
    context.progress(total, total, force=True)


class _Evaluation:
    """The answers under each condition; a method of its own for each."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.rows: list[DataRow] = rows_of(context, "test.jsonl")
        self.conditions = conditions_of(context)
        self.answers: dict[str, list[dict[str, Any]]] = {}
        full = sum(condition != "edited" for condition in self.conditions) * len(self.rows)
        self.total = full + (context.spec.evaluate.edited_rows if "edited" in self.conditions else 0)
        self.done = 0
        self.import_told: dict[str, Any] = {}

    @property
    def best(self) -> str:
        """The condition with the most knowledge."""
        return "imported" if "imported" in self.answers else "augmented"

    async def _ask(self, condition: str, rows: Sequence[DataRow], request: Any, **options: Any) -> None:
        self.answers[condition] = await ask_student(
            self.context,
            f"answers.{condition}",
            rows,
            request,
            first=self.done,
            total=self.total,
            note=condition,
            **options,
        )
        self.done += len(rows)
        self.context.folder.write_jsonl(f"answers.{condition}.jsonl", self.answers[condition])

    async def zero_shot(self) -> None:
        await self._ask(
            "zero_shot", self.rows, lambda i: request_for(self.context, self.rows[i].row, "base", mode="zero_shot")
        )

    async def general(self) -> None:
        adapter = self.context.general_adapter
        await load_adapter(self.context, adapter)
        await self._ask("general", self.rows, lambda i: request_for(self.context, self.rows[i].row, adapter))

    async def augmented(self, condition: str = "augmented") -> None:
        adapter = await self._augmented_adapter()
        await self._ask(
            condition, self.rows,
            lambda i: request_for(self.context, self.rows[i].row, adapter, retrieval=retrieval(self.context)),
        )  # fmt: skip

    async def shuffled(self) -> None:
        adapter = await self._augmented_adapter()
        texts = [[entry["text"] for entry in answer["entries"]] for answer in self.answers["augmented"]]
        other = derangement(len(texts), self.context.spec.seed)
        await self._ask(
            "shuffled", self.rows, lambda i: request_for(self.context, self.rows[i].row, adapter, given=texts[other[i]])
        )

    async def imported(self) -> None:
        folder = self.context.folder
        file = expert_file(self.context.spec.data.expert)
        if not folder.has("work/imported.json"):
            content = self.context.inputs["prepare"].read(file)
            made = await import_knowledge(
                self.context, content, self.context.spec.data.expert.rsplit("/", 1)[-1], author="expert",
                reason=f"evaluation of {self.context.run_name}",
            )  # fmt: skip
            told = {"created": made.created, "updated": made.updated, "merged": made.merged, "unchanged": made.unchanged,
                    "for_review": made.for_review}  # fmt: skip
            folder.write("work/imported.json", json.dumps(told).encode())
        self.import_told = json.loads(folder.read("work/imported.json"))
        await self.augmented("imported")

    async def edited(self) -> None:
        context = self.context
        base = {answer["id"]: answer for answer in self.answers[self.best]}
        by_id = {item.row.id: item for item in self.rows}
        right = [i for i, answer in base.items() if answer["correct"] and answer["entries"]]
        wanted = shuffled(right, context.spec.seed, "edited")[: context.spec.evaluate.edited_rows]
        texts = {i: [entry["text"] for entry in base[i]["entries"]] for i in wanted}

        def request(row_id: str, sample: int) -> Any:
            messages = prompts.counterfactual_messages(by_id[row_id].row, texts[row_id])
            return teacher_request(
                context, messages, caller="edit", sample=sample, schema=prompts.COUNTERFACTUAL_SCHEMA
            )

        def read(row_id: str, said: GenerateResponse | NesycdError, sample: int) -> tuple[dict[str, Any], bool]:
            if isinstance(said, NesycdError):
                return {"id": row_id, "reason": said.reason}, True
            change = read_change(by_id[row_id].row, texts[row_id], said.text)
            if change is None:
                return {"id": row_id, "reason": "UNCHANGED"}, True
            return {
                "id": row_id,
                "entries": list(change.entries),
                "rationale": change.rationale,
                "answer": change.answer,
            }, True

        edits = await ask_teacher(context, "edits", wanted, request, read, first=self.done, total=self.total)
        context.folder.write_jsonl("edits.jsonl", edits)
        changes = [
            Counterfactual(e["id"], tuple(e["entries"]), e["rationale"], e["answer"]) for e in edits if "answer" in e
        ]
        rows = [by_id[change.row_id] for change in changes]
        adapter = await self._augmented_adapter()

        def extra(index: int) -> dict[str, Any]:
            change = changes[index]
            before = texts[change.row_id]
            place = next(k for k, (a, b) in enumerate(zip(before, change.entries, strict=True)) if a != b)
            return {
                "original_answer": rows[index].row.answer, "original_entry": before[place],
                "edited_entry": change.entries[place], "edited_name": base[change.row_id]["entries"][place]["name"],
            }  # fmt: skip

        await self._ask(
            "edited", rows, lambda i: request_for(context, rows[i].row, adapter, given=changes[i].entries),
            gold=lambda i: changes[i].answer, extra=extra,
        )  # fmt: skip

    async def _augmented_adapter(self) -> str:
        adapter = self.context.augmented_adapter
        await load_adapter(self.context, adapter)
        return adapter


def summarise(answers: Mapping[str, Sequence[Mapping[str, Any]]], imported: Mapping[str, Any]) -> dict[str, Any]:
    """All figures of an evaluation; the report tells these and makes none of its own.

    Args:
        answers: The answers under each condition.
        imported: What the import of the expert's file did; empty where there was none.
    """
    best = answers.get("imported") or answers.get("augmented") or []
    summary: dict[str, Any] = {
        "conditions": {name: _figures(rows) for name, rows in answers.items()},
        "comparisons": [compare(a, answers[a], b, answers[b]) for a, b in _COMPARED if a in answers and b in answers],
        "entries": helped_and_harmed(best, answers.get("general", [])),
    }
    if "imported" in answers and "augmented" in answers:
        held_out = {a["id"] for a in answers["imported"] if a.get("facts") == "held_out"}
        before = [a for a in answers["augmented"] if a["id"] in held_out]
        after = [a for a in answers["imported"] if a["id"] in held_out]
        summary["imported"] = {
            "file": dict(imported), "n": len(after), "before": _share(before), "after": _share(after),
        }  # fmt: skip
    if "edited" in answers:
        summary["edited"] = {"n": len(answers["edited"]), "followed": _share(answers["edited"])}
    return summary


def derangement(count: int, seed: int) -> list[int]:
    """For each of ``count`` places another one, decided by the seed; every place is used once. With one place it is itself."""
    order = shuffled(range(count), seed, "shuffled-entries")
    other = [0] * count
    for position, index in enumerate(order):
        other[index] = order[(position + 1) % count]
    return other


def compare(
    a: str, answers_a: Sequence[Mapping[str, Any]], b: str, answers_b: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A paired comparison over the same rows: the difference of accuracy with its interval, and McNemar's test."""
    flags_a, flags_b = [x["correct"] for x in answers_a], [x["correct"] for x in answers_b]
    difference, low, high = paired_difference(flags_a, flags_b)
    return {
        "a": a,
        "b": b,
        "n": len(flags_a),
        "difference": difference,
        "low": low,
        "high": high,
        "p": mcnemar(flags_a, flags_b),
    }


def helped_and_harmed(
    reading: Sequence[Mapping[str, Any]], without: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """For each entry that was read: answers that are right with it and wrong without knowledge, and the reverse."""
    bare = {answer["id"]: answer["correct"] for answer in without}
    table: dict[str, dict[str, Any]] = {}
    for answer in reading:
        for entry in answer["entries"]:
            line = table.setdefault(
                entry["name"] or entry["text"],
                {"name": entry["name"], "text": entry["text"], "used": 0, "helped": 0, "harmed": 0},
            )
            line["used"] += 1
            if answer["id"] in bare:
                line["helped"] += answer["correct"] and not bare[answer["id"]]
                line["harmed"] += bare[answer["id"]] and not answer["correct"]
    return sorted(table.values(), key=lambda e: (-(e["helped"] + e["harmed"]), -e["used"], e["name"], e["text"]))


def _share(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    mean, low, high = bootstrap_interval([a["correct"] for a in answers]) if answers else (0.0, 0.0, 0.0)
    return {"n": len(answers), "accuracy": mean, "low": low, "high": high}


def _figures(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    families = sorted({a["task"] for a in answers})
    facts = sorted({a["facts"] for a in answers if a.get("facts")})
    return {
        **_share(answers),
        "families": {task: _share([a for a in answers if a["task"] == task]) for task in families},
        "facts": {kind: _share([a for a in answers if a.get("facts") == kind]) for kind in facts},
        "errors": sum("error" in a for a in answers),
        "prompt_tokens": sum(a["prompt_tokens"] for a in answers),
        "completion_tokens": sum(a["completion_tokens"] for a in answers),
        "seconds": round(sum(a["seconds"] for a in answers), 3),
    }
