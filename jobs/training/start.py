"""The way in: what is wrong with a training is said before anything is loaded; then it runs here, or in processes of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.training.processes import train_in_processes
from jobs.training.rows import encode_rows
from jobs.training.settings import Example, StepReport, TrainingError, TrainingResult, TrainingSettings
from jobs.training.steps import Job, train_rows
from jobs.training.team import Team
from services.common.devices import check_device


def train(
    examples: Sequence[Example],
    base_model_dir: Path,
    out_dir: Path,
    work_dir: Path,
    settings: TrainingSettings,
    *,
    start_adapter: Path | None = None,
    device: str = "auto",
    on_step: Callable[[StepReport], None] = lambda report: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Trains a LoRA adapter, going on from the last complete checkpoint in `work_dir` if there is one.

    Args:
        examples: Rows with a prompt, its completion and an id. A row is trained on whole or not at all.
        base_model_dir: Folder of a transformers causal language model.
        out_dir: Gets `adapter_model.safetensors` and `adapter_config.json` when all is done, and nothing before.
        work_dir: Folder of the checkpoints; those of another training (other rows, settings or model) are ignored.
        settings: See `TrainingSettings`.
        start_adapter: Folder of an adapter of the same base and shape to start from; without it a new one is made.
        device: `auto`, `cuda` or `cpu`: see `choose_device`.
        on_step: Called after each optimiser step.
        should_stop: Asked before each micro-batch (with several processes: a few times a second) and before
            anything is written. What it raises ends the training with nothing written.

    Returns:
        What was done.

    Raises:
        FailedPrecondition: The device is not there.
        TrainingError: Rows, model, adapter or settings do not fit, or the loss is no longer finite.
        TrainingStopped: `should_stop` returned true; the state was saved first.
        ProcessLost: One of several processes was killed or failed; the same call goes on from the last checkpoint.
    """
    from transformers import AutoTokenizer

    if not (base_model_dir / "config.json").is_file():
        raise TrainingError(
            f"no model in {base_model_dir}: config.json is missing; give a folder of a transformers model"
        )
    rows, dropped = encode_rows(examples, AutoTokenizer.from_pretrained(base_model_dir), settings.max_length)
    if not rows:
        longest = f"; all {len(dropped)} are longer than max_length = {settings.max_length} tokens" if dropped else ""
        raise TrainingError(f"no rows to train on{longest}")
    job = Job(rows, dropped, base_model_dir, out_dir, work_dir, settings, start_adapter, device)
    if settings.processes > 1:
        check_device(device, "NESYCD_JOBS_DEVICE")
        return train_in_processes(job, on_step, should_stop)
    return train_rows(job, Team(device=device), on_step=on_step, should_stop=should_stop, before_write=should_stop)
