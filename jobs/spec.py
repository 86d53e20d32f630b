"""The run spec: what a run is to do, checked strictly and without touching any data. docs/run-spec.md tells it field by field."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from method.conditions import CONDITIONS
from method.methods import UnknownMethod, get_method
from method.methods.base import ROUND_STAGES, TRAINING_STAGES
from services.common.errors import AlreadyExists, InvalidArgument, register_reason
from services.common.numbers import whole_numbers

INVALID_SPEC = register_reason(
    "INVALID_SPEC",
    "The run spec has an unknown field, a wrong type or a value out of range.",
    "Correct the places that the message names; docs/run-spec.md describes every field.",
)
RUN_EXISTS = register_reason(
    "RUN_EXISTS",
    "A run of this id exists already.",
    "Choose another run_id, leave it empty, or resume the run that exists.",
)

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,48}[A-Za-z0-9])?$")]
RUN_ID = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9-]{0,48}[A-Za-z0-9])?$")


MOST_NEW_TOKENS = 2048
"""The student writes no longer answers."""


class _Strict(BaseModel):
    # Strict: "3" is not a number and 1 is not a truth value; what a person meant is not guessed.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Source(_Strict):
    """Where rows come from: a file or folder as its publishers made it, or rows of our own."""

    path: Annotated[str, Field(min_length=1)]
    dataset: Literal[
        "rows", "bbh", "gsm8k", "metamathqa", "mmlu", "bb-sub", "agieval", "gsm8k-plus", "arc-easy", "arc-challenge"
    ] = "rows"
    tasks: list[str] = []
    limit: Annotated[int, Field(ge=0)] = 0


class Data(_Strict):
    """Data files: local paths of the worker or fsspec URLs. A path alone is a JSONL file of rows."""

    train: str | list[str | Source] = ""
    test: str | list[str | Source]
    expert: str = ""
    passages: str = ""
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.1

    def sources(self, part: Literal["train", "test"]) -> list[Source]:
        """Where the rows of a part come from, in order."""
        given = getattr(self, part)
        each = ([given] if given else []) if isinstance(given, str) else given
        return [Source(path=one) if isinstance(one, str) else one for one in each]


class Student(_Strict):
    """The small model."""

    base_model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = (
        "smollm2-135m-instruct"
    )
    task_descriptions: dict[str, str] = {}


class Teacher(_Strict):
    """How the teacher is asked."""

    model: str = ""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    max_tokens: Annotated[int, Field(ge=1, le=131_072)] = 512
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 16
    budget_usd: Annotated[float, Field(ge=0)] = 0.0
    samples: Annotated[int, Field(ge=1, le=16)] = 2


class Diagnose(_Strict):
    """How hard cases are found."""

    samples: Annotated[int, Field(ge=1, le=32)] = 1
    hard_below: Annotated[float, Field(gt=0, le=1)] = 0.5
    folds: Annotated[int, Field(ge=0, le=20)] = 0


class Utility(_Strict):
    """Whether entries earn their place: measured over so many training rows, 0: not at all."""

    rows: Annotated[int, Field(ge=0, le=100_000)] = 0
    retire_below: Annotated[int, Field(ge=-1000, le=0)] = -1


class Knowledge(_Strict):
    """The knowledge base that is filled, and how it is searched."""

    base: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)?$")] = ""
    granularity: Literal["atomic", "case"] = "atomic"
    show_gold_answer: bool = True
    top_k: Annotated[int, Field(ge=1, le=20)] = 3
    mode: Literal["", "bm25", "vector", "hybrid"] = ""
    kinds: list[Literal["summary", "fact"]] = ["summary", "fact"]
    index: Literal["", "text", "question", "both"] = ""
    for_training: Literal["leave_one_out", "own", "none"] = "leave_one_out"
    gate: Annotated[float, Field(ge=0, le=1)] = 0.0
    utility: Utility = Utility()


class Phase(_Strict):
    """One of the two trainings."""

    epochs: Annotated[int, Field(ge=1, le=100)] = 1
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1.0e-3
    batch_size: Annotated[int, Field(ge=0, le=4096)] = 0


class SecondPhase(Phase):
    """The training to read. It goes on from what the first one taught, and so takes smaller steps."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5.0e-4


class Lora(_Strict):
    """The adapter's form."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[int, Field(ge=1, le=4096)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Weights(_Strict):
    """How much the kinds of rows of the recipe `paper` count."""

    AD: Annotated[float, Field(ge=0, le=100)] = 1.0
    DC: Annotated[float, Field(ge=0, le=100)] = 1.0
    AP: Annotated[float, Field(ge=0, le=100)] = 1.0


class Training(_Strict):
    """How the student is trained."""

    recipe: Literal["", "reader", "paper"] = ""
    weights: Weights = Weights()
    weigh_by: Literal["rows", "loss"] = "rows"
    answer_with_knowledge: bool = False
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    start_from: Literal["base", "general"] = "general"
    general: Phase = Phase()
    augmented: SecondPhase = SecondPhase()
    lora: Lora = Lora()
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 8
    max_tokens_per_batch: Annotated[int, Field(ge=16, le=1_000_000)] = 512
    counterfactual_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_length: Annotated[int, Field(ge=16, le=131_072)] = 1024
    checkpoint_steps: Annotated[int, Field(ge=1, le=100_000)] = 10
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    schedule: Literal["linear", "cosine"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.06
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    gradient_checkpointing: bool = False


class Evaluate(_Strict):
    """Under which conditions the test rows are answered."""

    conditions: list[str] = []
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    sample_top_k: Annotated[int, Field(ge=0, le=1000)] = 0
    samples: Annotated[int, Field(ge=1, le=32)] = 1
    demonstrations: Annotated[int, Field(ge=1, le=16)] = 3
    # A rationale that is cut off before its answer counts as wrong.
    max_new_tokens: Annotated[int, Field(ge=1, le=MOST_NEW_TOKENS)] = 256
    edited_rows: Annotated[int, Field(ge=0, le=100_000)] = 60


class Publish(_Strict):
    """Under which name the student is served at the end; empty: under none."""

    alias: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)?$")] = "production"


class RunSpec(_Strict):
    """A whole run."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    method: str = "nesycd"
    rounds: Annotated[int, Field(ge=1, le=10)] = 1
    least_gain: Annotated[float, Field(ge=0, le=1)] = 0.005
    data: Data
    student: Student = Student()
    teacher: Teacher = Teacher()
    diagnose: Diagnose = Diagnose()
    knowledge: Knowledge = Knowledge()
    training: Training = Training()
    evaluate: Evaluate = Evaluate()
    publish: Publish = Publish()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        try:
            method = get_method(self.method)
        except UnknownMethod as error:
            raise ValueError(f"method: {error}") from None
        if {"rationalize", "train-general", "train-augmented"} & set(method.stages) and not self.data.train:
            raise ValueError(f"data.train: method {method.name} needs training rows")
        if self.rounds > 1 and not self.data.held_out:
            raise ValueError("data.held_out: rounds are compared on rows that are held out; set it above 0")
        if self.diagnose.folds == 1:
            raise ValueError("diagnose.folds: one fold leaves no rows to train on; use 2 or more, or 0 for none")
        if not self.knowledge.kinds:
            raise ValueError("knowledge.kinds: name at least one kind")
        if not self.data.test:
            raise ValueError("data.test: there are no test rows")
        if "passages" in method.stages and not self.data.passages:
            raise ValueError(f"data.passages: method {method.name} reads a corpus of passages; name its file")
        known = method.recipes.get("train-augmented", (self.training.recipe,))  # without the stage it is not used
        if self.training.recipe and self.training.recipe not in known:
            raise ValueError(f"training.recipe: method {method.name} has no recipe {self.training.recipe!r}")
        self._check_evaluation()
        return self

    def _check_evaluation(self) -> None:
        evaluate = self.evaluate
        if len(set(evaluate.conditions)) != len(evaluate.conditions):
            raise ValueError("evaluate.conditions: a condition is named twice")
        for name in evaluate.conditions:
            if name not in CONDITIONS:
                raise ValueError(f"evaluate.conditions: {name!r} is none of {', '.join(CONDITIONS)}")
            if lacking := self._lacking(name):
                raise ValueError(f"evaluate.conditions: {name!r} needs {lacking}")
        if evaluate.samples > 1 and not evaluate.temperature:
            raise ValueError("evaluate.samples: at temperature 0 all samples are the same; set evaluate.temperature")

    def _lacking(self, condition: str) -> str:
        """What a condition needs and this run does not have; "" where it has all."""
        wanted, method = CONDITIONS[condition], get_method(self.method)
        if wanted.student != "base" and f"train-{wanted.student}" not in method.stages:
            return f"the stage train-{wanted.student}, which method {method.name} does not have"
        if wanted.reads and not {"extract", "passages"} & set(method.stages):
            return f"a knowledge base, which method {method.name} does not fill"
        if wanted.demonstrations and "rationalize" not in method.stages:
            return f"rationales, which method {method.name} does not ask for"
        return (
            "the expert's file; name it in data.expert" if wanted.reads == "imported" and not self.data.expert else ""
        )

    def conditions(self) -> list[str]:
        """The conditions under which test rows are answered, in order: those that the spec names, or the method's own."""
        own = get_method(self.method).conditions
        wanted = set(self.evaluate.conditions or (name for name in own if not self._lacking(name)))
        for name in tuple(wanted):
            # Whose entries are shuffled, or edited, was found by another condition of the same student in the same mode.
            one = CONDITIONS[name]
            if one.reads in ("shuffled", "edited"):
                wanted |= {
                    other.name for other in CONDITIONS.values()
                    if (other.student, other.mode, other.reads) == (one.student, one.mode, "found")
                }  # fmt: skip
        return [name for name in CONDITIONS if name in wanted]

    @property
    def holds_out(self) -> bool:
        """Whether training rows are set aside, on which rounds are compared.

        The method has no say: all methods of one spec train on the same rows, and share what they make of them.
        """
        return self.rounds > 1 or self.knowledge.utility.rows > 0

    def phase(self, stage: str) -> Phase:
        """How a training stage of the method is to learn: the first one by training.general, a second one by training.augmented.

        So a baseline whose only training is train-augmented learns as long and as fast as those that it is compared with.
        """
        first = next(name for name in get_method(self.method).stages if name in TRAINING_STAGES)
        return self.training.general if stage == first else self.training.augmented

    def plan(self) -> list[tuple[str, int]]:
        """The stages with their rounds, in order; further rounds repeat what lies between diagnose and validate."""
        method = get_method(self.method)
        most = self.rounds if method.rounds else 1
        stages = [stage for stage in method.stages if stage != "validate" or self.holds_out]
        again = [stage for stage in ROUND_STAGES if stage in stages]
        before = [stage for stage in stages if stage not in (*again, "evaluate", "publish")]
        rounds = [(stage, number) for number in range(1, most + 1) for stage in again]
        # Every run ends with a report, also of a method that has nothing to publish.
        return [*((s, 1) for s in before), *rounds, ("evaluate", most), ("publish", most)]

    def dump(self) -> dict[str, Any]:
        """The spec as JSON values, defaults filled in."""
        return self.model_dump(mode="json")


def parse(spec: Mapping[str, Any]) -> RunSpec:
    """Checks a run spec.

    Args:
        spec: As read from YAML, JSON or a protobuf Struct. Whole numbers may be floats (a Struct knows no others).

    Raises:
        InvalidArgument: Reason INVALID_SPEC; one clear sentence for each problem, each names its place, such as
            ``training.lora.rank``.
    """
    if not isinstance(spec, Mapping):
        raise InvalidArgument("the run spec must be a mapping of fields", reason=INVALID_SPEC, field="spec")
    try:
        return RunSpec.model_validate(_with_settings(whole_numbers(spec)))
    except ValidationError as error:
        problems = [_sentence(item) for item in error.errors(include_url=False)]
        text = "; ".join(f"{place}: {sentence}" for place, sentence in problems[:10])
        raise InvalidArgument(
            f"the run spec is not valid: {text}",
            reason=INVALID_SPEC,
            violations=[(f"spec.{place}", sentence) for place, sentence in problems],
        ) from None


def check_run_id(run_id: str) -> str:
    """Returns the id, or raises InvalidArgument where it has other signs than letters, digits and hyphens."""
    if not RUN_ID.fullmatch(run_id):
        raise InvalidArgument(
            f"run_id {run_id[:80]!r} is not valid: use 1 to 50 letters, digits and hyphens, no hyphen at either end",
            field="run_id",
        )
    return run_id


def new_run_id(name: str, request_id: str = "") -> str:
    """An id of the spec's name and a random part; with a request id the same one each time."""
    tail = hashlib.sha256(request_id.encode()).hexdigest() if request_id else uuid.uuid4().hex
    return f"{name[:40].rstrip('-')}-{tail[:8]}"


def run_exists(run_id: str) -> AlreadyExists:
    """The error of a run that is to be made under the id of another one."""
    return AlreadyExists(
        f"run_id {run_id!r} is taken: choose another, or leave it empty",
        reason=RUN_EXISTS,
        resource_type="run",
        resource_name=f"runs/{run_id}",
    )


def canonical(value: Any) -> str:
    """The one JSON text of a value, for digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _with_settings(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with what its method fixes: a method's own settings win over the spec's."""
    try:
        settings = get_method(str(spec.get("method", "nesycd"))).settings
    except UnknownMethod:
        return spec  # told by the validation
    for name, value in settings.items():
        *path, last = name.split(".")
        place = spec
        for part in path:
            inner = place.get(part, {})
            if not isinstance(inner, Mapping):
                break  # told by the validation too
            place[part] = place = dict(inner)
        else:
            place[last] = value
    return spec


def _sentence(item: Mapping[str, Any]) -> tuple[str, str]:
    place = ".".join(str(part) for part in item["loc"]) or "spec"
    kind, given, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind == "value_error":  # of our own validator, which names the place itself
        inner, _, sentence = str(context.get("error", item["msg"])).partition(": ")
        return (inner if place == "spec" else f"{place}.{inner}"), sentence
    if kind == "extra_forbidden":
        return place, "there is no such field; remove it or correct its name"
    if kind == "missing":
        return place, "this field is missing and has no default"
    if kind == "literal_error":
        return place, f"must be {context['expected']}, not {given!r:.80}"
    if kind == "string_pattern_mismatch":
        return place, f"{given!r:.80} is not valid: use letters, digits and hyphens, no hyphen at either end"
    message = item["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    wanted = {"int_type": "a whole number", "float_type": "a number", "bool_type": "true or false", "string_type": "text",
              "list_type": "a list", "model_type": "a mapping of fields", "dict_type": "a mapping"}.get(kind, message)  # fmt: skip
    return place, f"must be {wanted}, not {given!r:.80}"
