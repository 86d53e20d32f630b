"""evaluate: the student service answers the test rows under the run's conditions (`method.conditions`), in their order.

Conditions that read other entries than those that were found follow one that finds them. What changes the knowledge base
(``imported``: the expert's file) or follows from answers (``edited``: the teacher changes an entry that an answer needs, and
counted is how many answers follow) comes last.

Output: ``answers.<condition>.jsonl`` (one record a row and sample), ``edits.jsonl``, ``summary.json``, ``contamination.json``
(test rows that stand in what was trained on or is read; under ``expert``, those in what the expert's file brings).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from nesycd.student.v1 import Demonstration
from nesycd.teacher.v1 import GenerateResponse

from jobs.adapters import adapter_for, load_adapter
from jobs.artifacts import read_jsonl
from jobs.asking import ask_student, ask_teacher, cut_off, rows_of, shuffled, teacher_request
from jobs.code import code_digest
from jobs.context import Context
from jobs.figures import summarise
from jobs.knowledge import export_knowledge, import_knowledge, record_feedback, texts_of
from jobs.rows import DataRow
from jobs.serving import as_evaluated, request_for, retrieval
from jobs.stages.prepare import expert_file
from jobs.stages.rationalize import rationales_of
from jobs.stages.train_augmented import read_change
from method import contamination, prompts
from method.conditions import CONDITIONS, Condition
from method.methods import TRAINING_STAGES, get_method
from method.mixtures import Counterfactual
from method.prompts import Row
from services.common.errors import NesycdError

# Asked anew for each run: what is evaluated is this run's knowledge base and what is served.
# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, OWN, CODE = True, True, ("asking.py", "serving.py", "knowledge.py", "figures.py")


def relevant(context: Context) -> dict[str, Any]:
    spec = context.spec
    return {
        "seed": spec.seed, "evaluate": spec.evaluate.model_dump(mode="json"), "conditions": spec.conditions(),
        "student": spec.student.model_dump(mode="json"),
        "knowledge": spec.knowledge.model_dump(mode="json", include={"base", "top_k", "mode", "kinds", "gate", "granularity"}),
    }  # fmt: skip


async def run(context: Context) -> dict[str, Any]:
    await _contamination(context)
    evaluation = _Evaluation(context)
    for name in evaluation.conditions:
        await evaluation.ask(CONDITIONS[name])
    headline = get_method(context.spec.method).headline
    summary = summarise(evaluation.answers, evaluation.import_told, headline=headline)
    context.folder.write("summary.json", json.dumps(summary, indent=2, ensure_ascii=False).encode())
    accuracy = {name: part["accuracy"] for name, part in summary["conditions"].items()}
    found = json.loads(context.folder.read("contamination.json"))
    expert = found.get("expert", {"same": 0, "near": 0})
    return {
        "accuracy": accuracy, "contaminated": found["same"] + found["near"],
        "contaminated_expert": expert["same"] + expert["near"], "code": code_digest(),
    }  # fmt: skip


async def _contamination(context: Context) -> None:
    """Looks for test rows in the training rows and in the knowledge base as it is now, before an expert's file is imported."""
    folder = context.folder
    if folder.has("contamination.json"):
        return
    trains = any(stage in context.inputs for stage in ("rationalize", *TRAINING_STAGES))
    training = [item.row for item in rows_of(context, "train.jsonl")] if trains else []
    reads = any(stage in context.inputs for stage in ("extract", "passages"))
    entries = (
        {entry["name"]: entry.get("text", "") for entry in read_jsonl(await export_knowledge(context))} if reads else {}
    )
    found = contamination.check([item.row for item in rows_of(context, "test.jsonl")], training, entries)
    folder.write("contamination.json", json.dumps(found.summary(), indent=2, ensure_ascii=False).encode())


def _expert_contamination(context: Context, content: bytes, file: str) -> None:
    """Looks for test rows in what the expert's file brings, also where the knowledge base had it before.

    A base that others share, or an evaluation that is done anew, has it: what the base lacked tells nothing.
    """
    folder = context.folder
    told = json.loads(folder.read("contamination.json"))
    if "expert" in told:
        return
    found = contamination.check([item.row for item in rows_of(context, "test.jsonl")], [], texts_of(content, file))
    told["expert"] = found.summary()
    folder.write("contamination.json", json.dumps(told, indent=2, ensure_ascii=False).encode())


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    summary = json.loads(context.folder.read("summary.json"))
    await record_feedback(context, [{**e, "entry": e["name"]} for e in summary["entries"] if e["name"]])
    context.store.annotate(context.run_id, accuracy=manifest["accuracy"])
    total = sum(part["n"] * part["samples"] for part in summary["conditions"].values())
    notes = []
    if found := manifest["contaminated"]:
        notes.append(f"{found} test rows stand in what was trained on or is read, or nearly: contamination.json")
    if found := manifest["contaminated_expert"]:
        notes.append(f"{found} test rows stand in what the expert's file brings, or nearly: contamination.json")
    cut = {
        name: part["truncated"] / (part["n"] * part["samples"])
        for name, part in summary["conditions"].items()
        if part["n"]
    }
    notes += filter(None, [cut_off(cut, context.spec.evaluate.max_new_tokens)])
    context.progress(total, total, note="; ".join(notes), force=True)


class _Evaluation:
    """The answers under each condition that was asked so far."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.rows: list[DataRow] = rows_of(context, "test.jsonl")
        self.conditions = context.spec.conditions()
        self.samples = context.spec.evaluate.samples
        self.answers: dict[str, list[dict[str, Any]]] = {}
        full = sum(name != "edited" for name in self.conditions) * len(self.rows) * self.samples
        self.total = full + context.spec.evaluate.edited_rows * (self.samples + 1) * ("edited" in self.conditions)
        self.done = 0
        self.import_told: dict[str, Any] = {}

    async def ask(self, condition: Condition) -> None:
        """Has the student answer under a condition."""
        adapter = adapter_for(self.context, condition.student)
        await load_adapter(self.context, adapter)
        rows = self.rows
        given: Callable[[int], Sequence[str]] | None = None
        gold: Callable[[int], str] | None = None
        extra: Callable[[int], dict[str, Any]] | None = None
        if condition.reads == "shuffled":
            texts = [[entry["text"] for entry in answer["entries"]] for answer in self._first("found", condition)]
            other = donors(texts, self.context.spec.seed)
            given = lambda index: texts[other[index]]  # noqa: E731
            extra = lambda index: {"own_entries": len(set(texts[index]) & set(texts[other[index]]))}  # noqa: E731
        elif condition.reads == "imported":
            await self._import()
        elif condition.reads == "edited":
            rows, changes, extra = await self._edits(condition)
            given = lambda index: changes[index].entries  # noqa: E731
            gold = lambda index: changes[index].answer  # noqa: E731
        searches = condition.reads in ("found", "imported")
        shown = self._demonstrations() if condition.demonstrations else None

        def request(index: int, sample: int) -> Any:
            row = rows[index].row
            return request_for(
                self.context, row, adapter, mode=condition.mode,
                retrieval=retrieval(self.context) if searches else None, given=given(index) if given else None,
                demonstrations=shown(row) if shown else (), decoding=as_evaluated(self.context, sample),
            )  # fmt: skip

        await self._ask(condition.name, rows, request, gold, extra)

    async def _ask(
        self,
        name: str,
        rows: Sequence[DataRow],
        request: Callable[[int, int], Any],
        gold: Callable[[int], str] | None,
        extra: Callable[[int], dict[str, Any]] | None,
    ) -> None:
        count, several = len(rows), self.samples > 1
        self.answers[name] = await ask_student(
            self.context, f"answers.{name}", list(rows) * self.samples, lambda i: request(i % count, i // count),
            gold=(lambda i: gold(i % count)) if gold else None,
            extra=lambda i: {**(extra(i % count) if extra else {}), **({"sample": i // count} if several else {})},
            first=self.done, total=self.total, note=name,
        )  # fmt: skip
        self.done += count * self.samples
        self.context.folder.write_jsonl(f"answers.{name}.jsonl", self.answers[name])

    def _first(self, reads: str, condition: Condition) -> list[dict[str, Any]]:
        """The first sample of the answers of the same student in the same mode that read so."""
        name = next(
            n
            for n in self.answers
            if (CONDITIONS[n].student, CONDITIONS[n].mode, CONDITIONS[n].reads)
            == (condition.student, condition.mode, reads)
        )
        return self.answers[name][: len(self.rows)]

    async def _import(self) -> None:
        folder, path = self.context.folder, self.context.spec.data.expert
        content, file = self.context.inputs["prepare"].read(expert_file(path)), path.rsplit("/", 1)[-1]
        if not folder.has("work/imported.json"):
            made = await import_knowledge(
                self.context, content, file, author="expert", reason=f"evaluation of {self.context.run_name}",
            )  # fmt: skip
            told = {"created": made.created, "updated": made.updated, "merged": made.merged, "unchanged": made.unchanged,
                    "for_review": made.for_review}  # fmt: skip
            folder.write("work/imported.json", json.dumps(told).encode())
        _expert_contamination(self.context, content, file)
        self.import_told = json.loads(folder.read("work/imported.json"))

    async def _edits(
        self, condition: Condition
    ) -> tuple[list[DataRow], list[Counterfactual], Callable[[int], dict[str, Any]]]:
        """Rows whose answer was right with entries, what the teacher changed in these, and what is told of each."""
        context = self.context
        base = {a["id"]: a for a in self._first("imported" if "imported" in self.answers else "found", condition)}
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
                "id": row_id, "entries": list(change.entries), "rationale": change.rationale, "answer": change.answer,
            }, True  # fmt: skip

        edits = await ask_teacher(context, "edits", wanted, request, read, first=self.done, total=self.total)
        self.done += len(wanted)
        context.folder.write_jsonl("edits.jsonl", edits)
        changes = [
            Counterfactual(e["id"], tuple(e["entries"]), e["rationale"], e["answer"]) for e in edits if "answer" in e
        ]

        def extra(index: int) -> dict[str, Any]:
            change = changes[index]
            before = texts[change.row_id]
            place = next(k for k, (a, b) in enumerate(zip(before, change.entries, strict=True)) if a != b)
            return {
                "original_answer": by_id[change.row_id].row.answer, "original_entry": before[place],
                "edited_entry": change.entries[place], "edited_name": base[change.row_id]["entries"][place]["name"],
            }  # fmt: skip

        return [by_id[change.row_id] for change in changes], changes, extra

    def _demonstrations(self) -> Callable[[Row], list[Demonstration]]:
        rows = [item.row for item in rows_of(self.context, "train.jsonl")]
        return demonstrations(
            rows,
            rationales_of(self.context),
            count=self.context.spec.evaluate.demonstrations,
            seed=self.context.spec.seed,
        )


def demonstrations(
    rows: Sequence[Row], rationales: Mapping[str, str], *, count: int, seed: int
) -> Callable[[Row], list[Demonstration]]:
    """Which examples stand before a question.

    Args:
        rows: Training rows.
        rationales: Accepted rationale by row id.
        count: Examples a question.
        seed: Decides which.

    Returns:
        A function from a row to its examples: of the row's task, or of any where the task has none, never the row itself.
    """
    usable = shuffled(sorted((r for r in rows if r.id in rationales), key=lambda r: r.id), seed, "demonstrations")
    by_task: dict[str, list[Row]] = {}
    for row in usable:
        by_task.setdefault(row.task, []).append(row)

    def shown(row: Row) -> list[Demonstration]:
        others = [r for r in by_task.get(row.task, usable) if r.id != row.id and r.question != row.question]
        return [Demonstration(question=r.question, rationale=rationales[r.id], answer=r.answer) for r in others[:count]]

    return shown


def derangement(count: int, seed: int) -> list[int]:
    """For each of ``count`` places another one, decided by the seed; every place is used once. With one place it is itself."""
    order = shuffled(range(count), seed, "shuffled-entries")
    other = [0] * count
    for position, index in enumerate(order):
        other[index] = order[(position + 1) % count]
    return other


def donors(found: Sequence[Collection[str]], seed: int) -> list[int]:
    """For each row another one whose entries it is given: one that found none of the same, as far as exchanges find such.

    It begins with `derangement` and exchanges the donors of two rows while that lowers the number of rows that are given what
    they found themselves; what only a longer exchange would better stays. Every row's entries are used once.

    Args:
        found: The entries that each row found.
        seed: Decides which.
    """
    entries, other = [frozenset(each) for each in found], derangement(len(found), seed)

    def shares(row: int, donor: int) -> bool:
        return not entries[row].isdisjoint(entries[donor])

    improved = True
    while improved:
        improved = False
        for row in (row for row in range(len(found)) if shares(row, other[row])):
            for partner in range(len(found)):
                if shares(row, other[partner]) or row == other[partner] or partner == other[row]:
                    continue
                if shares(partner, other[partner]) or not shares(partner, other[row]):
                    other[row], other[partner] = other[partner], other[row]
                    improved = True
                    break
    return other
