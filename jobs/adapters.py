"""From training rows to an adapter that the student serves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from nesycd.student.v1 import LoadAdapterRequest, UnloadAdapterRequest

from jobs import training
from jobs.clients import Services
from jobs.context import Context, HandBack
from jobs.spec import Phase
from method.digests import digest_files
from method.mixtures import Fit, TrainingExample
from method.prompts import TRIGGER, QuestionTooLong, Row, fit_prompt
from services.common.errors import FailedPrecondition, NesycdError, NotFound, register_reason
from services.common.logs import get_logger

log = get_logger("nesycd.adapters")

MODEL_NOT_FOUND = register_reason(
    "MODEL_NOT_FOUND",
    "The artifact store has no base model of the name that the run spec gives.",
    "Put the model's transformers folder into models/ of the artifact store, or correct student.base_model.",
)
TRAINING_IMPOSSIBLE = register_reason(
    "TRAINING_IMPOSSIBLE",
    "The student cannot be trained with these rows, this model or these settings.",
    "Do what the message says; docs/run-spec.md explains the settings.",
)

_STOPPING_SECONDS = 10.0
"""What a worker that is to stop waits for the student: it has a minute for all, saving what it has above all."""
_MODEL_SECONDS = 4 * 3600.0
"""What bringing a base model from a remote store, and reading all of it, may take: it tells nothing meanwhile."""


def check_base_model(context: Context) -> None:
    """Returns when the artifact store has the base model.

    Raises:
        NotFound: There is no such model.
    """
    name = context.spec.student.base_model
    if not context.artifacts.exists("models", name, "config.json"):
        raise NotFound(
            f"student.base_model: there is no model {name!r} in {context.artifacts.uri('models')}",
            reason=MODEL_NOT_FOUND,
            resource_type="model",
            resource_name=name,
        )


def base_model_digest(context: Context) -> str:
    """Digest of the base model's files.

    Raises:
        NotFound: There is no such model.
    """
    check_base_model(context)
    name = context.spec.student.base_model
    files = [n for n in context.artifacts.names("models", name) if n == "config.json" or n.endswith(".safetensors")]
    with context.watchdog.long_call(_MODEL_SECONDS):
        folder = context.artifacts.local("models", name)
        return digest_files({file: _digest_of_file(folder / file) for file in files})


def train_adapter(
    context: Context, examples: Sequence[TrainingExample], phase: Phase, *, start_adapter: Path | None = None,
    place: str = "", note: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Trains an adapter into ``adapter/`` of the stage's folder, going on from its last checkpoint.

    Args:
        context: The stage.
        examples: The rows.
        phase: Epochs and learning rate.
        start_adapter: Folder of an adapter to start from.
        place: A folder in the stage's for an adapter that is not the stage's output.
        note: For people.

    Returns:
        What was done, for the manifest.

    Raises:
        FailedPrecondition: Reason TRAINING_IMPOSSIBLE.
        HandBack, RunCancelled, LeaseLost: It was stopped; a checkpoint is saved.
    """
    spec, root = context.spec.training, f"{place}/" if place else ""
    settings = training.TrainingSettings(
        **asdict_of(spec.lora), learning_rate=phase.learning_rate, epochs=phase.epochs, batch_size=phase.batch_size or spec.batch_size,
        max_tokens_per_batch=spec.max_tokens_per_batch, max_length=spec.max_length, schedule=spec.schedule,
        warmup=spec.warmup, weight_decay=spec.weight_decay, seed=context.spec.seed, dtype=spec.dtype,
        checkpoint_steps=spec.checkpoint_steps, gradient_checkpointing=spec.gradient_checkpointing,
        processes=spec.processes,
    )  # fmt: skip
    with context.watchdog.long_call(_MODEL_SECONDS):
        base = context.artifacts.local("models", context.spec.student.base_model)
    checkpoints = f"{root}checkpoints" if root else "work/checkpoints"
    out, work = context.folder.local(f"{root}adapter"), context.folder.local(checkpoints)
    work.mkdir(parents=True, exist_ok=True)
    context.folder.write_jsonl(f"{root}rows.jsonl", [asdict(example) for example in examples])

    def on_step(report: training.StepReport) -> None:
        saved = report.step % spec.checkpoint_steps == 0
        if saved:
            context.folder.mirror(work, checkpoints)
        context.progress(
            report.step, report.total, unit="steps", loss=report.loss, seconds_left=report.seconds_left, note=note,
            saved=report.step if saved else None,
        )  # fmt: skip

    context.note("loads the model")
    try:
        result = training.train(
            examples,
            base,
            out,
            work,
            settings,
            start_adapter=start_adapter,
            device=context.settings.device,
            on_step=on_step,
            should_stop=context.should_stop,
        )
    except training.TrainingStopped:
        context.folder.mirror(work, checkpoints)
        context.check()
        raise HandBack(context.run_id) from None
    except training.TrainingError as error:
        raise FailedPrecondition(str(error), reason=TRAINING_IMPOSSIBLE) from None
    context.folder.write_jsonl(f"{root}history.jsonl", [dict(record) for record in result.history])
    if not context.artifacts.is_local:
        context.folder.push(out, f"{root}adapter")
    told = asdict(result)
    told.pop("history")
    return {"training": {**told, "dropped": len(result.dropped)}}


async def offer_adapter(context: Context, adapter: str, version: int, *, place: str = "") -> str:
    """Copies an adapter to where adapters are served from, its manifest last, and has the student load it.

    A version never changes: where another adapter has it already (an earlier run of the same id), the next free one is taken.

    Args:
        context: The stage.
        adapter: The adapter's id.
        version: The version that is wanted.
        place: As for `train_adapter`.

    Returns:
        Its name, `adapters/{adapter}@{version}`.
    """
    root = f"{place}/adapter" if place else "adapter"
    contents = {
        file: context.folder.read(f"{root}/{file}") for file in (training.ADAPTER_FILE, training.ADAPTER_CONFIG)
    }
    files = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    while True:
        where = ("adapters", adapter, str(version))
        known = context.artifacts.read_json(*where, "manifest.json")
        if known is None or known.get("files") == files:
            break
        version += 1
    if known is None:
        for file, content in contents.items():
            context.artifacts.write(content, *where, file)
        manifest = {
            "base_model": context.spec.student.base_model,
            "base_digest": base_model_digest(context),
            "files": files,
            "run": context.run_name,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        context.artifacts.write(json.dumps(manifest, indent=2).encode(), *where, "manifest.json")
    name = f"adapters/{adapter}@{version}"
    await load_adapter(context, name)
    return name


async def withdraw_adapter(context: Context, name: str, *, stopping: bool = False) -> None:
    """Takes an adapter back that was offered for a while.

    Args:
        context: The stage.
        name: As `offer_adapter` gave it.
        stopping: The run ends, or its worker: the student is asked once, and nobody waits for one that is away.
    """
    adapter, _, version = name.removeprefix("adapters/").partition("@")
    await unload_adapter(context, name, stopping=stopping)
    # Killed in between, the version is not there: a manifest without its files would be a damaged one.
    context.artifacts.remove("adapters", adapter, version, "manifest.json")
    context.artifacts.remove("adapters", adapter, version)


async def unload_adapter(context: Context, name: str, *, stopping: bool = False) -> None:
    """Has the student forget an adapter, if it has it; its files stay. See `withdraw_adapter`."""
    method, request = context.services.student.UnloadAdapter, UnloadAdapterRequest(adapter=name)
    with contextlib.suppress(NotFound):
        if stopping:
            await context.services.once(method, request, seconds=_STOPPING_SECONDS)
        else:
            await context.services.call(method, request, what="student")


async def unload_adapters(services: Services, run_id: str, names: Iterable[str]) -> None:
    """Has the student forget adapters that it need not serve any more. Their files stay, and a stage that needs one loads it.

    The student is asked once: what a run made does not depend on it, and nobody waits for one that is away.

    Args:
        services: The services.
        run_id: The run, for the log.
        names: The adapters; those for which an alias stands, or which it does not have, are left.
    """
    for name in sorted(names):
        try:
            await services.once(services.student.UnloadAdapter, UnloadAdapterRequest(adapter=name))
        except (NotFound, FailedPrecondition):
            continue
        except NesycdError as error:  # it would hear of the others no more than of this one
            log.warning("adapters_stay_loaded", run=run_id, adapter=name, why=error.message)
            return


async def serve_adapter(context: Context, adapter: str, version: int) -> None:
    """Offers the stage's own adapter, and says that the run has it.

    Args:
        context: The stage; its folder is complete.
        adapter: The adapter's id.
        version: The version that is wanted.
    """
    name = await offer_adapter(context, adapter, version)
    context.store.progress(context.run_id, context.stage, context.round, context.lease.token, {"adapter": name})
    context.store.annotate(context.run_id, adapter=name)


def adapter_for(context: Context, student: str) -> str:
    """The name that the student service knows a student by: "base", S_P ("general") or the best S_E ("augmented")."""
    if student == "base":
        return "base"
    return context.general_adapter if student == "general" else context.best_augmented_adapter


async def load_adapter(context: Context, name: str) -> None:
    """Has the student load an adapter, if it has not; "base" needs none."""
    if name == "base":
        return
    await context.services.call(
        context.services.student.LoadAdapter, LoadAdapterRequest(adapter=name), what="student", seconds=300
    )


def fitting(context: Context, rows: Sequence[Row], rationales: Mapping[str, str]) -> Fit:
    """What of a row's entries fits a training row beside what it is to write, as the student's server decides it: whole entries go, the last first.

    Args:
        context: The stage.
        rows: The training rows; their task's description takes room too.
        rationales: By row id. It is they that must fit behind the prompt, and not `evaluate.max_new_tokens`, which may be as much as a
            training row has.
    """
    from transformers import AutoTokenizer

    folder = context.artifacts.local("models", context.spec.student.base_model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    known = context.spec.student.task_descriptions
    described = {row.question: known.get(row.task, "") for row in rows}
    written = {row.question: f" {rationales.get(row.id, '')} {TRIGGER} {row.answer}." for row in rows}

    def fit(question: str, entries: Sequence[str]) -> Sequence[str]:
        def count(text: str) -> int:
            return len(tokenizer(text).input_ids)

        budget = context.spec.training.max_length - count(written.get(question, "")) - 1  # the end mark
        try:
            return fit_prompt(
                question, entries, count_tokens=count, budget=budget,
                task_description=described.get(question, ""),
            ).entries  # fmt: skip
        except QuestionTooLong:
            return []

    return fit


def asdict_of(model: Any) -> dict[str, Any]:
    """The fields of a part of the spec."""
    return {name: getattr(model, name) for name in type(model).model_fields}


def _digest_of_file(path: Path) -> str:
    known = path.stat()
    return _sha256(path, known.st_size, known.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """A file's digest; models are large, and are asked for at each training."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
