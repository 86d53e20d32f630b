"""train-general: the student learns without knowledge, from the teacher's rationales or the answers alone.

Output: ``adapter/``, ``rows.jsonl`` (what it was trained on), ``history.jsonl`` (loss by step).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.adapters import asdict_of, base_model_digest, serve_adapter, train_adapter
from jobs.asking import rows_of
from jobs.context import Context
from jobs.stages.rationalize import rationales_of
from method.methods import get_method
from method.mixtures import TrainingExample, build_rows
from method.prompts import Row

# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, OWN, CODE = False, False, ("adapters.py", "training")


def relevant(context: Context) -> dict[str, Any]:
    return {
        "seed": context.spec.seed,
        "student": context.spec.student.model_dump(mode="json"),
        "base_digest": base_model_digest(context),
        "recipe": get_method(context.spec.method).recipe("train-general"),
        "phase": asdict_of(context.spec.phase("train-general")),
        **shape(context),
    }


def shape(context: Context) -> dict[str, Any]:
    """What both trainings depend on."""
    names = ("lora", "batch_size", "max_tokens_per_batch", "max_length", "dtype", "schedule", "warmup", "weight_decay")
    return context.spec.training.model_dump(mode="json", include=set(names))


def general_examples(context: Context, rows: Sequence[Row]) -> list[TrainingExample]:
    """The training rows of S_P.

    Args:
        context: The stage.
        rows: The questions to learn from.
    """
    return build_rows(
        get_method(context.spec.method).recipe("train-general"), rows, rationales_of(context), seed=context.spec.seed,
        descriptions=context.spec.student.task_descriptions,
    )  # fmt: skip


async def run(context: Context) -> dict[str, Any]:
    examples = general_examples(context, [item.row for item in rows_of(context, "train.jsonl")])
    return train_adapter(context, examples, context.spec.phase("train-general"))


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    await serve_adapter(context, f"{context.run_id}-general", 1)
    steps = manifest["training"]["steps"]
    context.progress(steps, steps, unit="steps", force=True)
