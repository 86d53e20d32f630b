"""The loop over optimiser steps, as every process of a training runs it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.training.checkpoints import fingerprint_of, last_checkpoint, restore, save_checkpoint, write_adapter
from jobs.training.hardware import choose_dtype, dtype_name, peak_memory_bytes
from jobs.training.loss import RowLoss
from jobs.training.model import load_model
from jobs.training.rows import EncodedRow, learning_rate_at, loss_divisors, step_rows
from jobs.training.settings import StepReport, TrainingError, TrainingResult, TrainingSettings, TrainingStopped
from jobs.training.team import Team


@dataclass(frozen=True)
class Job:
    """A training, ready to run.

    Attributes:
        rows: All rows of one epoch.
        dropped: Ids of the rows that were too long.
        base_model_dir, out_dir, work_dir, settings, start_adapter, device: As in `train`.
    """

    rows: list[EncodedRow]
    dropped: tuple[str, ...]
    base_model_dir: Path
    out_dir: Path
    work_dir: Path
    settings: TrainingSettings
    start_adapter: Path | None
    device: str = "auto"


def train_rows(
    job: Job,
    team: Team,
    *,
    on_step: Callable[[StepReport], None],
    should_stop: Callable[[], bool],
    before_write: Callable[[], Any],
) -> TrainingResult:
    """Trains in this process, which may be one of several.

    Args:
        job: What to do.
        team: The processes.
        on_step: Called after each step, by the first process.
        should_stop: Asked before each micro-batch, by the first process.
        before_write: Called by the first process before anything is written; what it raises ends the training.

    Raises:
        TrainingError, TrainingStopped: As `train`; in all processes alike.
    """
    import torch

    settings, base_name = job.settings, job.base_model_dir.name
    total = settings.epochs * math.ceil(len(job.rows) / settings.batch_size)
    dtype = choose_dtype(settings.dtype)
    fingerprint = fingerprint_of(job.rows, settings, job.base_model_dir, job.start_adapter, dtype)
    model = load_model(job.base_model_dir, job.start_adapter, settings, dtype, team.device)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    checkpoint = last_checkpoint(job.work_dir, fingerprint)
    state: dict[str, Any] = {"step": 0, "tokens": 0, "padded_tokens": 0, "seconds": 0.0, "history": []}
    if checkpoint:
        state = restore(checkpoint, model, parameters, optimizer)
    resumed_from = saved = state["step"]
    team.add(0)  # nobody writes before all have read

    def save() -> None:
        nonlocal saved
        if team.rank == 0:
            before_write()
            save_checkpoint(job.work_dir, fingerprint, model, base_name, parameters, optimizer, state)
        saved = state["step"]

    def stop() -> TrainingStopped:
        if saved < state["step"]:
            save()
        return TrainingStopped(state["step"], total)

    loss_of = RowLoss(model, team.device, dtype, longest=max(len(row.ids) for row in job.rows))
    started = time.monotonic()
    while state["step"] < total:
        step = state["step"]
        step_started = time.monotonic()
        batch = step_rows(job.rows, step, settings.batch_size, settings.seed)
        divisors = loss_divisors(batch)
        rate = learning_rate_at(step, total, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        # Dropout of this step, whoever runs it.
        torch.manual_seed(settings.seed * 1_000_003 + step + 1 + team.rank * 500_000_003)
        stopping = team.size > 1 and team.rank == 0 and should_stop()
        loss = 0.0
        padded = 0
        for micro in loss_of.micro_batches(team.share(batch), settings.max_tokens_per_batch):
            stopping = stopping or (team.rank == 0 and should_stop())
            if stopping and team.size == 1:
                raise stop()  # several finish the step, so that all stop at the same one
            part = loss_of(micro, divisors)
            part.backward()
            loss += part.item()
            padded += loss_of.tokens(micro)
        loss, all_padded, told_to_stop = team.add(loss, padded, stopping)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of step {step + 1} is {loss}: lower learning_rate (now {settings.learning_rate:g}) "
                f"or set dtype to float32 (now {dtype_name(dtype)})"
            )
        team.add_gradients(parameters.values())
        if settings.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        seconds = time.monotonic() - step_started
        state["step"] = step + 1
        state["tokens"] += sum(len(row.ids) for row in batch)
        state["padded_tokens"] += int(all_padded)
        state["seconds"] += seconds
        record = {"step": step + 1, "loss": loss, "tokens": state["tokens"], "learning_rate": rate, "seconds": seconds}
        state["history"].append(record)
        if state["step"] % settings.checkpoint_steps == 0 or state["step"] == total:
            save()
        left = (time.monotonic() - started) / (state["step"] - resumed_from) * (total - state["step"])
        if team.rank == 0:
            on_step(StepReport(state["step"], total, loss, state["tokens"], left, rate))
        if told_to_stop and state["step"] < total:
            raise stop()

    if team.rank == 0:
        before_write()
        job.out_dir.mkdir(parents=True, exist_ok=True)
        for name in write_adapter(job.out_dir, model, base_name, suffix=".part"):
            os.replace(job.out_dir / f"{name}.part", job.out_dir / name)
    on_gpu = torch.cuda.max_memory_allocated(team.device) if team.device.type == "cuda" else 0
    peak, peak_gpu = team.highest(peak_memory_bytes(), on_gpu)
    return TrainingResult(
        steps=total,
        rows=len(job.rows),
        dropped=job.dropped,
        tokens=state["tokens"],
        padded_tokens=state["padded_tokens"],
        seconds=state["seconds"],
        history=tuple(state["history"]),
        dtype=dtype_name(dtype),
        device=team.device.type,
        resumed_from=resumed_from,
        peak_memory_bytes=int(peak),
        peak_gpu_bytes=int(peak_gpu),
        processes=team.size,
    )
