"""What a training is told and what it tells: settings, progress, result, errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol


class TrainingError(ValueError):
    """The training cannot be done as asked: the message names what is wrong, where, and what to do."""


class TrainingStopped(Exception):
    """`should_stop` said so. The state is saved; the same call goes on from there.

    Attributes:
        step: Optimiser steps done and saved.
        total: Optimiser steps of the whole training.
    """

    def __init__(self, step: int, total: int) -> None:
        super().__init__(f"training stopped after step {step} of {total}; the checkpoint is saved")
        self.step = step
        self.total = total


class ProcessLost(RuntimeError):
    """A process of the training was killed or failed, and the others were ended. The last checkpoint is as good as ever."""


class Example(Protocol):
    """One training row (`method.mixtures.TrainingExample` is one).

    It may have a `weight`, by what the mean loss of its kind counts, and a `kind`; where no row has a weight (None, or no such
    attribute), kinds do not matter. See `rows.loss_divisors`.
    """

    @property
    def row_id(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def completion(self) -> str: ...


@dataclass(frozen=True)
class TrainingSettings:
    """How a student is trained. The defaults work for SmolLM2-135M on 400 rows (one seed, no sweep).

    Attributes:
        rank: LoRA rank, on all linear layers but the output head.
        alpha: LoRA scale (the update is multiplied by alpha / rank).
        dropout: Dropout before the LoRA layers, 0 to 1.
        learning_rate: Peak learning rate of AdamW.
        epochs: Passes over the rows.
        batch_size: Rows of one optimiser step.
        max_tokens_per_batch: Padded tokens of one micro-batch: the knob for memory. A single longer row goes alone.
        max_length: Tokens of prompt and completion together; longer rows are left out whole and counted.
        schedule: `linear` or `cosine` decay to zero.
        warmup: Share of the steps over which the learning rate rises.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradient clipping; 0 turns it off.
        seed: Fixes the order, the initial adapter and dropout.
        dtype: `auto` (bfloat16 where the hardware has it, else float32), `float32` or `bfloat16`. The environment
            variable NESYCD_TORCH_DTYPE decides for `auto`.
        checkpoint_steps: A checkpoint every so many steps.
        gradient_checkpointing: Less memory for about a third more time.
        processes: Processes that divide each step's rows, one a GPU where there are GPUs.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    learning_rate: float = 1e-3
    epochs: int = 1
    batch_size: int = 8
    max_tokens_per_batch: int = 512
    max_length: int = 1024
    schedule: Literal["linear", "cosine"] = "linear"
    warmup: float = 0.06
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_steps: int = 10
    gradient_checkpointing: bool = False
    processes: int = 1

    def __post_init__(self) -> None:
        for name in (
            "rank",
            "alpha",
            "epochs",
            "batch_size",
            "max_tokens_per_batch",
            "max_length",
            "checkpoint_steps",
            "processes",
        ):
            if getattr(self, name) < 1:
                raise TrainingError(f"training setting {name} is {getattr(self, name)}; it must be 1 or more")
        if not self.learning_rate > 0:
            raise TrainingError(f"training setting learning_rate is {self.learning_rate}; it must be above 0")
        for name in ("dropout", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(f"training setting {name} is {getattr(self, name)}; it must be from 0 to below 1")
        if self.schedule not in ("linear", "cosine"):
            raise TrainingError(f"training setting schedule is {self.schedule!r}; it must be linear or cosine")
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise TrainingError(f"training setting dtype is {self.dtype!r}; it must be auto, float32 or bfloat16")


@dataclass(frozen=True)
class StepReport:
    """Progress after one optimiser step.

    Attributes:
        step: Steps done, from 1.
        total: Steps of the whole training.
        loss: Mean loss of the step's completion tokens, in nats; with weights, what they make of it.
        tokens: Tokens of the rows trained on so far (padding not counted).
        seconds_left: Estimate from this process' own steps.
        learning_rate: The step's learning rate.
    """

    step: int
    total: int
    loss: float
    tokens: int
    seconds_left: float
    learning_rate: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training did.

    Attributes:
        steps: Optimiser steps, those before a resume included.
        rows: Rows trained on in one epoch.
        dropped: Ids of the rows longer than `max_length`, which were left out.
        tokens: Tokens of the rows over all epochs (padding not counted).
        padded_tokens: The same with padding: what was computed.
        seconds: Seconds in steps, over all attempts.
        history: One record a step: step, loss, tokens, learning_rate, seconds.
        dtype: `float32` or `bfloat16`.
        device: `cpu` or `cuda`.
        resumed_from: Step of the checkpoint that it went on from; 0 for a fresh start.
        peak_memory_bytes: Highest resident memory of the process that trained; of several, of the largest.
        peak_gpu_bytes: Most GPU memory that tensors had at once, in the process that had most; 0 without a GPU.
        processes: Processes that trained.
    """

    steps: int
    rows: int
    dropped: tuple[str, ...]
    tokens: int
    padded_tokens: int
    seconds: float
    history: tuple[Mapping[str, float], ...]
    dtype: str
    device: str
    resumed_from: int
    peak_memory_bytes: int
    peak_gpu_bytes: int = 0
    processes: int = 1
