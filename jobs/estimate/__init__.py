"""What a run would take, without running it: rows, steps, tokens, money and memory.

Training rows are built by the same code as in a run, from the spec's own questions with stand-ins for what is not there yet:
rationales and entries of a usual length. What was assumed is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs import passages
from jobs.artifacts import Artifacts
from jobs.estimate.model_size import Shape, known_shape, shape_of
from jobs.estimate.token_count import TokenCount, token_count
from jobs.spec import Phase, RunSpec
from jobs.stages.prepare import load_rows, read_file, set_aside
from method import prompts
from method.conditions import CONDITIONS
from method.methods import get_method
from method.mixtures import Counterfactual, TrainingExample, build_rows
from method.prompts import Row

Prices = Mapping[str, tuple[float, float]]
"""US dollars per million tokens read and written, by model; "*" is any other."""

RATIONALE, FACT, ENTRY, ANSWER = 100, 15, 120, 8
"""Tokens of a rationale, of an atomic entry, of a case's entry (and of what the teacher writes about a case), of an answer."""
HARD = 0.4
"""Share of the training rows that the student fails in the first round; half as many in each further one."""
TOGETHER = 48
"""Questions that the student answers at once."""


@dataclass
class StageEstimate:
    """What a stage would take; its fields are those of the contract's StageEstimate."""

    name: str
    round: int
    rows: int = 0
    steps: int = 0
    teacher_calls: int = 0
    teacher_prompt_tokens: int = 0
    teacher_completion_tokens: int = 0
    cost_usd: float = 0.0
    training_tokens: int = 0
    student_tokens: int = 0


@dataclass
class Estimate:
    """What a run would take.

    Attributes:
        spec: The spec as it was checked.
        stages: In order.
        parameters: Of the base model; 0: not known.
        trainable_parameters: Of its adapter.
        training_memory_bytes: At the peak.
        serving_memory_bytes: With TOGETHER questions at once.
        notes: What was assumed.
    """

    spec: dict[str, Any]
    stages: list[StageEstimate] = field(default_factory=list)
    parameters: int = 0
    trainable_parameters: int = 0
    training_memory_bytes: int = 0
    serving_memory_bytes: int = 0
    notes: list[str] = field(default_factory=list)


def estimate(spec: RunSpec, artifacts: Artifacts, prices: Prices) -> Estimate:
    """Reckons what a run would take.

    Args:
        spec: The run; its data files are read.
        artifacts: Where the base model's config.json and tokenizer.json are, if anywhere.
        prices: The teacher's.

    Raises:
        NotFound, InvalidArgument: A data file is not there, or is wrong.
    """
    return _Reckoning(spec, artifacts, prices).whole()


class _Reckoning:
    """One estimate; a method of its own for each stage."""

    def __init__(self, spec: RunSpec, artifacts: Artifacts, prices: Prices) -> None:
        self.spec, self.method = spec, get_method(spec.method)
        self.made = Estimate(spec.dump())
        share = spec.data.held_out if spec.holds_out else 0.0
        train, self.held_out = set_aside(load_rows(spec.data, "train"), share, spec.seed)
        self.train = [item.row for item in train]
        self.test = [item.row for item in load_rows(spec.data, "test")]
        sample = [row.question for row in (self.train or self.test)]
        self.tokens: TokenCount = token_count(artifacts, spec.student.base_model, sample)
        corpus = spec.data.passages if "passages" in self.method.stages else ""
        found = passages.parse(read_file(corpus, "passages"), corpus) if corpus else []
        self.passages = [passage["text"] for passage in found]
        self.price = prices.get(spec.teacher.model) or prices.get("*") or (next(iter(prices.values())) if len(prices) == 1 and not spec.teacher.model else None)  # fmt: skip
        self.rationale_tokens = min(RATIONALE, spec.teacher.max_tokens)
        self.answer_tokens = min(RATIONALE + ANSWER, spec.evaluate.max_new_tokens)
        self.rationales = {row.id: self.tokens.filler(self.rationale_tokens) for row in self.train}
        length = self.tokens.of(self.passages) // len(self.passages) if self.passages else ENTRY if spec.knowledge.granularity == "case" else FACT  # fmt: skip
        self.entries = [self.tokens.filler(length)] * spec.knowledge.top_k
        self.longest = self.largest = self.targets = 0

    def whole(self) -> Estimate:
        for name, round_ in self.spec.plan():
            stage = StageEstimate(name, round_)
            getattr(self, f"_{name.replace('-', '_')}")(stage)
            if self.price:
                read, written = stage.teacher_prompt_tokens, stage.teacher_completion_tokens
                stage.cost_usd = (read * self.price[0] + written * self.price[1]) / 1e6
            self.made.stages.append(stage)
        self._memory_of(self._shape())
        self._notes()
        return self.made

    # --- stages

    def _prepare(self, stage: StageEstimate) -> None:
        stage.rows = len(self.train) + len(self.held_out) + len(self.test)

    def _rationalize(self, stage: StageEstimate) -> None:
        stage.rows = len(self.train)
        self._ask_teacher(stage, [prompts.rationale_messages(row) for row in self.train], self.rationale_tokens)

    def _train_general(self, stage: StageEstimate) -> None:
        self._train(stage, self._general_rows(), self.spec.phase("train-general"))

    def _diagnose(self, stage: StageEstimate) -> None:
        stage.rows = len(self.train)
        stage.student_tokens = stage.rows * self.spec.diagnose.samples * self.answer_tokens
        folds = self.spec.diagnose.folds if stage.round == 1 else 0
        if folds:
            examples = self._general_rows()
            self._train(stage, examples[: len(examples) * (folds - 1) // folds], self.spec.training.general)
            stage.rows, stage.steps = len(self.train), stage.steps * folds
            stage.training_tokens *= folds

    def _extract(self, stage: StageEstimate) -> None:
        response = self.tokens.filler(self.answer_tokens)
        hard = self._hard(stage.round)
        stage.rows = len(hard)
        shown = self.spec.knowledge.show_gold_answer
        self._ask_teacher(stage, [prompts.knowledge_messages(row, response, shown) for row in hard], ENTRY)

    def _passages(self, stage: StageEstimate) -> None:
        stage.rows = len(self.passages)

    def _train_augmented(self, stage: StageEstimate) -> None:
        training, recipe = self.spec.training, self.method.recipe("train-augmented", self.spec.training.recipe)
        changes: dict[str, Counterfactual] = {}
        if recipe == "reader" and self.entries:
            asked = self.train[: round(training.counterfactual_share * len(self.train) * 1.25)]
            self._ask_teacher(
                stage, [prompts.counterfactual_messages(row, self.entries) for row in asked], RATIONALE + FACT + ANSWER
            )
            changes = {r.id: Counterfactual(r.id, tuple(self.entries), self.rationales[r.id], r.answer) for r in asked}
        self._train(stage, self._augmented_rows(recipe, changes), self.spec.phase("train-augmented"))

    def _validate(self, stage: StageEstimate) -> None:
        measured = min(len(self.train), self.spec.knowledge.utility.rows)
        stage.rows = len(self.held_out) + measured
        stage.student_tokens = (len(self.held_out) + measured * (1 + self.spec.knowledge.top_k)) * self.answer_tokens

    def _evaluate(self, stage: StageEstimate) -> None:
        evaluate = self.spec.evaluate
        for name in self.spec.conditions():
            condition = CONDITIONS[name]
            rows = self.test[: evaluate.edited_rows] if condition.reads == "edited" else self.test
            short = condition.mode in ("answer", "zero_shot_answer")
            stage.rows += len(rows)
            stage.student_tokens += len(rows) * evaluate.samples * (ANSWER if short else self.answer_tokens)
            if condition.reads == "edited":
                asked = [prompts.counterfactual_messages(row, self.entries) for row in rows]
                self._ask_teacher(stage, asked, RATIONALE + FACT + ANSWER)

    def _publish(self, stage: StageEstimate) -> None:
        stage.rows = 0

    # --- parts of them

    def _hard(self, round_: int) -> list[Row]:
        return self.train[: math.ceil(len(self.train) * HARD / 2 ** (round_ - 1))]

    def _ask_teacher(self, stage: StageEstimate, asked: Sequence[Sequence[Mapping[str, str]]], written: int) -> None:
        stage.teacher_calls += len(asked)
        stage.teacher_prompt_tokens += self.tokens.of(m["content"] for messages in asked for m in messages)
        stage.teacher_completion_tokens += len(asked) * written

    def _general_rows(self) -> list[TrainingExample]:
        recipe = self.method.recipe("train-general")
        return build_rows(recipe, self.train, self.rationales, descriptions=self.spec.student.task_descriptions)

    def _augmented_rows(self, recipe: str, changes: Mapping[str, Counterfactual]) -> list[TrainingExample]:
        training, entries = self.spec.training, {row.id: self.entries for row in self.train}
        return build_rows(
            recipe, self.train, self.rationales, entries={} if self.spec.knowledge.for_training == "none" else entries,
            hard_ids={row.id for row in self._hard(1)}, counterfactuals=changes,
            weights=training.weights.model_dump() if recipe == "paper" else None, weigh_by=training.weigh_by,
            answer_with_knowledge=training.answer_with_knowledge,
            counterfactual_fraction=training.counterfactual_share, descriptions=self.spec.student.task_descriptions,
        )  # fmt: skip

    def _train(self, stage: StageEstimate, examples: Sequence[TrainingExample], phase: Phase) -> None:
        training = self.spec.training
        batch_size = phase.batch_size or training.batch_size
        lengths = [(self.tokens.of([e.prompt]), self.tokens.of([e.completion])) for e in examples]
        fitting = [(prompt, completion) for prompt, completion in lengths if prompt + completion <= training.max_length]
        if dropped := len(lengths) - len(fitting):
            self.made.notes.append(
                f"{stage.name}: about {dropped} of {len(lengths)} rows are longer than training.max_length and are left out."
            )
        stage.rows = len(fitting)
        stage.steps = phase.epochs * math.ceil(len(fitting) / batch_size)
        stage.training_tokens = phase.epochs * sum(prompt + completion for prompt, completion in fitting)
        longest = max((prompt + completion for prompt, completion in fitting), default=0)
        whole = sum(prompt + completion for prompt, completion in fitting) or 1
        # A micro-batch is filled up to its tokens with rows of one step; a longer row goes alone.
        largest = max(longest, min(training.max_tokens_per_batch, longest * batch_size))
        self.longest, self.largest = max(self.longest, longest), max(self.largest, largest)
        self.targets = max(self.targets, round(largest * sum(completion for _, completion in fitting) / whole))

    # --- the model

    def _shape(self) -> Shape | None:
        name = self.spec.student.base_model
        config = self.tokens.artifacts.read_json("models", name, "config.json")
        shape = shape_of(config) if isinstance(config, dict) else known_shape(name)
        if shape is None:
            why = (
                "its config.json is of another form"
                if config
                else "it is not in the artifact store, nor known by its name"
            )
            self.made.notes.append(f"Parameters and memory of {name} are not known: {why}.")
        return shape

    def _memory_of(self, shape: Shape | None) -> None:
        if shape is None:
            return
        training = self.spec.training
        width = 4 if training.dtype == "float32" else 2
        self.made.parameters = shape.parameters
        if self.largest:
            self.made.trainable_parameters = shape.lora(training.lora.rank)
            self.made.training_memory_bytes = shape.training_bytes(
                rank=training.lora.rank, width=width, tokens=self.largest, targets=self.targets,
                checkpointing=training.gradient_checkpointing,
            )  # fmt: skip
        question = max((self.tokens.of([row.question]) for row in self.test), default=0) + self.tokens.of(self.entries)
        tokens = TOGETHER * (question + self.spec.evaluate.max_new_tokens)
        self.made.serving_memory_bytes = shape.serving_bytes(
            width=width, tokens=tokens, copies=1 if self.largest else 0
        )
        if training.dtype == "auto":
            self.made.notes.append(
                "Memory is for bfloat16; where the hardware has none, float32 takes about twice as much."
            )
        self.made.notes.append(
            "Memory leaves out the libraries themselves and fragmentation, 0.5 to 1.5 GiB a process."
        )

    def _notes(self) -> None:
        notes, calls = self.made.notes, sum(stage.teacher_calls for stage in self.made.stages)
        notes.insert(0, self.tokens.note)
        if calls:
            notes.append(
                f"Assumed: a rationale has {self.rationale_tokens} tokens, what the teacher writes about a hard case {ENTRY}; "
                f"a row is asked once (at most {self.spec.teacher.samples} times where its rationale ends in a wrong answer)."
            )
            if self.price is None:
                model = self.spec.teacher.model or "the proxy's own model"
                notes.append(f"Money is not reckoned: NESYCD_TEACHER_PRICES has no price for {model}.")
            elif self.spec.teacher.budget_usd and self.spec.teacher.budget_usd < sum(
                s.cost_usd for s in self.made.stages
            ):
                notes.append(
                    "The teacher would cost more than teacher.budget_usd allows: the run would stop before its end."
                )
        if any(stage.name == "extract" for stage in self.made.stages):
            notes.append(
                f"Assumed: the student fails {HARD:.0%} of its training rows, half as many in each further round."
            )
        if any(stage.round > 1 for stage in self.made.stages):
            notes.append("All rounds are counted; fewer are done where one gains less than least_gain.")
