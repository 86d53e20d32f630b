"""One row of training, and how rows are made of a question and what belongs to it.

Kinds of rows:

* DC: question -> rationale, answer
* AD: question and entries -> rationale, answer
* CF: AD with one entry changed, and the rationale and answer that follow from the change
* AP: question -> answer
* R: question -> rationale (first step of mode "cascade")
* A: question and rationale -> answer (its second step)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from method import prompts
from method.mixtures.counterfactuals import Counterfactual
from method.prompts import Row

Kind = Literal["AD", "DC", "AP", "CF", "R", "A"]
KINDS: tuple[Kind, ...] = ("AD", "DC", "AP", "CF", "R", "A")
Fit = Callable[[str, Sequence[str]], Sequence[str]]
"""(question, entries) -> those of the entries that fit the student's context."""


@dataclass(frozen=True)
class TrainingExample:
    """One row of supervised fine-tuning; the loss covers the completion only.

    Attributes:
        prompt: what the student reads.
        completion: what it is to write.
        row_id: of the question.
        kind: see above.
        weight: by what the mean loss of its kind counts; None: nothing is weighed, each token counts as any other.
    """

    prompt: str
    completion: str
    row_id: str
    kind: Kind
    weight: float | None = None


@dataclass(frozen=True)
class Material:
    """What the rows of a recipe are made of.

    Attributes:
        rows: the training questions, by id, so that nothing depends on the order in which they came.
        rationales: accepted rationale by row id.
        entries: retrieved entries by row id, best first.
        hard_ids: ids of the rows that the student failed.
        counterfactuals: changed rows by row id.
        counterfactual_fraction: the part of the rows that a changed one replaces, 0 to 1.
        answer_with_knowledge: whether AP rows carry the entries.
        seed: of every choice.
        descriptions: task description by task.
        fit: leaves out the entries that do not fit; None: all fit.
    """

    rows: Sequence[Row]
    rationales: Mapping[str, str]
    entries: Mapping[str, Sequence[str]]
    hard_ids: Collection[str]
    counterfactuals: Mapping[str, Counterfactual]
    counterfactual_fraction: float
    answer_with_knowledge: bool
    seed: int
    descriptions: Mapping[str, str]
    fit: Fit | None

    @property
    def explained(self) -> list[Row]:
        """The rows that have an accepted rationale."""
        return [row for row in self.rows if self.rationales.get(row.id, "").strip()]

    def found(self, row: Row) -> Sequence[str]:
        """The entries that were retrieved for a row."""
        return self.entries.get(row.id, ())

    def reasoned(self, row: Row, kind: Kind, entries: Sequence[str] = ()) -> TrainingExample:
        """DC or AD: the rationale and the answer."""
        completion = prompts.student_completion(self.rationales[row.id], row.answer)
        return TrainingExample(self._prompt(row, "cot", entries), completion, row.id, kind)

    def changed(self, row: Row, change: Counterfactual) -> TrainingExample:
        """CF: by the changed entries, all of them."""
        prompt = prompts.student_prompt(
            row.question, entries=change.entries, task_description=self.descriptions.get(row.task, "")
        )
        return TrainingExample(prompt, prompts.student_completion(change.rationale, change.answer), row.id, "CF")

    def answered(self, row: Row, entries: Sequence[str] = ()) -> TrainingExample:
        """AP: the answer alone."""
        return TrainingExample(
            self._prompt(row, "answer", entries), prompts.answer_completion(row.answer), row.id, "AP"
        )

    def explaining(self, row: Row, weight: float | None = None) -> TrainingExample | None:
        """R: the rationale alone; None where the teacher wrote the answer and no reasoning."""
        completion = prompts.rationale_completion(self.rationales[row.id])
        prompt = self._prompt(row, "cascade", ())
        return TrainingExample(prompt, completion, row.id, "R", weight) if completion else None

    def concluding(self, row: Row, weight: float | None = None) -> TrainingExample:
        """A: the answer after the rationale."""
        prompt = prompts.cascade_prompt(self._prompt(row, "cascade", ()), self.rationales[row.id])
        return TrainingExample(prompt, prompts.cascade_completion(row.answer), row.id, "A", weight)

    def _prompt(self, row: Row, mode: str, entries: Sequence[str]) -> str:
        kept = self.fit(row.question, entries) if self.fit and entries else entries
        return prompts.student_prompt(
            row.question, entries=kept, mode=mode, task_description=self.descriptions.get(row.task, "")
        )
