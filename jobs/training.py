"""LoRA training of a student on prompt/completion rows, on a CPU or one GPU.

What decides its shape:

* Only completions have loss, and only their positions go through the output head: with a vocabulary of 49,152 the
  logits of the prompts would cost more memory than the model.
* Every optimiser step sees the same number of rows, drawn in a random order. Inside a step, rows of like length share a
  padded micro-batch under a token budget (rows are never packed behind each other: without variable-length attention
  they would see each other).
* A checkpoint is exact: a run that was stopped and resumed ends with the same bytes as one that was not (float32, same
  machine). Order and dropout are functions of the seed and the step, so the position is the whole random state.
* Nothing is pickled: safetensors and JSON only.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import random
import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER_FILE = "optimizer.safetensors"
MANIFEST = "manifest.json"
KEPT_CHECKPOINTS = 2
# What a forward and backward pass is taken to cost beside its tokens, in tokens: an estimate, not a measurement. It decides
# when splitting a step further saves more padding than it costs.
MICRO_BATCH_OVERHEAD = 48


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


class Example(Protocol):
    """One training row (`method.mixtures.TrainingExample` is one)."""

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

    def __post_init__(self) -> None:
        for name in ("rank", "alpha", "epochs", "batch_size", "max_tokens_per_batch", "max_length", "checkpoint_steps"):
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
        loss: Mean loss of the step's completion tokens, in nats.
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
        peak_memory_bytes: Highest resident memory of this process so far.
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


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of a row; loss falls on those from `prompt_length` on."""

    ids: tuple[int, ...]
    prompt_length: int


def train(
    examples: Sequence[Example],
    base_model_dir: Path,
    out_dir: Path,
    work_dir: Path,
    settings: TrainingSettings,
    *,
    start_adapter: Path | None = None,
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
        on_step: Called after each optimiser step.
        should_stop: Asked before each micro-batch and before anything is written. What it raises ends the training with nothing written.

    Returns:
        What was done.

    Raises:
        TrainingError: Rows, model, adapter or settings do not fit, or the loss is no longer finite.
        TrainingStopped: `should_stop` returned true; the state was saved first.
    """
    import torch
    from transformers import AutoTokenizer

    if not (base_model_dir / "config.json").is_file():
        raise TrainingError(
            f"no model in {base_model_dir}: config.json is missing; give a folder of a transformers model"
        )
    tokenizer = AutoTokenizer.from_pretrained(base_model_dir)
    rows, dropped = encode_rows(examples, tokenizer, settings.max_length)
    if not rows:
        longest = f"; all {len(dropped)} are longer than max_length = {settings.max_length} tokens" if dropped else ""
        raise TrainingError(f"no rows to train on{longest}")
    total = settings.epochs * math.ceil(len(rows) / settings.batch_size)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = choose_dtype(settings.dtype)
    fingerprint = _fingerprint(rows, settings, base_model_dir, start_adapter, dtype)
    model = _load_model(base_model_dir, start_adapter, settings, dtype, device)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    checkpoint = last_checkpoint(work_dir, fingerprint)
    state: dict[str, Any] = {"step": 0, "tokens": 0, "padded_tokens": 0, "seconds": 0.0, "history": []}
    if checkpoint:
        state = _restore(checkpoint, model, parameters, optimizer)
    resumed_from = saved = state["step"]

    def save() -> None:
        nonlocal saved
        should_stop()  # raises where nothing may be written; to stop is time enough before the next micro-batch
        _save_checkpoint(work_dir, fingerprint, model, base_model_dir.name, parameters, optimizer, state)
        saved = state["step"]

    def stop() -> TrainingStopped:
        if saved < state["step"]:
            save()
        return TrainingStopped(state["step"], total)

    loss_sum = _loss_function(model, device, dtype)
    model.train()
    started = time.monotonic()
    while state["step"] < total:
        step = state["step"]
        step_started = time.monotonic()
        batch = step_rows(rows, step, settings.batch_size, settings.seed)
        targets = sum(len(row.ids) - row.prompt_length for row in batch)
        rate = learning_rate_at(step, total, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(settings.seed * 1_000_003 + step + 1)  # dropout of this step, whoever runs it
        loss = 0.0
        padded = 0
        for micro in micro_batches(batch, settings.max_tokens_per_batch):
            if should_stop():
                raise stop()
            part = loss_sum(micro) / targets
            part.backward()
            loss += part.item()
            padded += len(micro) * max(len(row.ids) for row in micro)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of step {step + 1} is {loss}: lower learning_rate (now {settings.learning_rate:g}) "
                f"or set dtype to float32 (now {_name(dtype)})"
            )
        if settings.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        seconds = time.monotonic() - step_started
        state["step"] = step + 1
        state["tokens"] += sum(len(row.ids) for row in batch)
        state["padded_tokens"] += padded
        state["seconds"] += seconds
        record = {"step": step + 1, "loss": loss, "tokens": state["tokens"], "learning_rate": rate, "seconds": seconds}
        state["history"].append(record)
        if state["step"] % settings.checkpoint_steps == 0 or state["step"] == total:
            save()
        left = (time.monotonic() - started) / (state["step"] - resumed_from) * (total - state["step"])
        on_step(StepReport(state["step"], total, loss, state["tokens"], left, rate))

    should_stop()
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in _write_adapter(out_dir, model, base_model_dir.name, suffix=".part"):
        os.replace(out_dir / f"{name}.part", out_dir / name)
    return TrainingResult(
        steps=total,
        rows=len(rows),
        dropped=dropped,
        tokens=state["tokens"],
        padded_tokens=state["padded_tokens"],
        seconds=state["seconds"],
        history=tuple(state["history"]),
        dtype=_name(dtype),
        device=device.type,
        resumed_from=resumed_from,
        peak_memory_bytes=peak_memory_bytes(),
    )


# --- rows and batches


def encode_rows(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[EncodedRow], tuple[str, ...]]:
    """Turns examples into token ids, prompt and completion apart, as serving sees them.

    Args:
        examples: The rows.
        tokenizer: The base model's.
        max_length: Tokens a row may have; a longer one is left out whole: a cut question teaches wrong answers.

    Returns:
        The rows, and the ids of those left out.

    Raises:
        TrainingError: A completion without tokens.
    """
    rows: list[EncodedRow] = []
    dropped: list[str] = []
    for example in examples:
        prompt = tokenizer(example.prompt)["input_ids"]
        completion = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
        if not completion:
            raise TrainingError(f"row {example.row_id!r} has an empty completion")
        if tokenizer.eos_token_id is not None:
            completion = [*completion, tokenizer.eos_token_id]
        if len(prompt) + len(completion) > max_length:
            dropped.append(example.row_id)
        else:
            rows.append(EncodedRow((*prompt, *completion), len(prompt)))
    return rows, tuple(dropped)


def step_rows(rows: Sequence[EncodedRow], step: int, batch_size: int, seed: int) -> list[EncodedRow]:
    """Returns the rows of an optimiser step (from 0); each epoch has an order of its own, made from the seed."""
    steps = math.ceil(len(rows) / batch_size)
    epoch, position = divmod(step, steps)
    order = list(range(len(rows)))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return [rows[index] for index in order[position * batch_size : (position + 1) * batch_size]]


def micro_batches(rows: Sequence[EncodedRow], budget: int) -> list[list[EncodedRow]]:
    """Splits a step's rows, sorted by length, where that costs least (padding against the cost of one more pass).

    Args:
        rows: Rows of the step.
        budget: Padded tokens that a micro-batch may have. A row longer than that is a micro-batch of its own.

    Returns:
        The micro-batches.
    """
    ordered = sorted(rows, key=lambda row: len(row.ids))
    # best[i] = cheapest way to split the first i rows, and where its last micro-batch begins.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(ordered) + 1):
        length = len(ordered[end - 1].ids)
        best.append(
            min(
                (best[start][0] + length * (end - start) + MICRO_BATCH_OVERHEAD, start)
                for start in range(end)
                if start == end - 1 or length * (end - start) <= budget
            )
        )
    batches: list[list[EncodedRow]] = []
    end = len(ordered)
    while end:
        start = best[end][1]
        batches.append(ordered[start:end])
        end = start
    return batches[::-1]


def learning_rate_at(step: int, total: int, settings: TrainingSettings) -> float:
    """Returns the learning rate of a step (from 0): a linear rise over the warm-up, then decay towards zero."""
    warmup = math.ceil(settings.warmup * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if settings.schedule == "cosine":
        return settings.learning_rate * (1 + math.cos(math.pi * progress)) / 2
    return settings.learning_rate * (1 - progress)


# --- hardware


def choose_dtype(wanted: str) -> torch.dtype:
    """Returns the number format to compute in.

    bfloat16 is up to 2.4 times as fast as float32 on a CPU that has it, and 150 times slower on others: `auto` looks.

    Args:
        wanted: `auto`, `float32` or `bfloat16`; for `auto` the environment variable NESYCD_TORCH_DTYPE decides, if set.

    Raises:
        TrainingError: Another value.
    """
    import torch

    if wanted == "auto":
        wanted = os.environ.get("NESYCD_TORCH_DTYPE") or "auto"
    if wanted == "auto":
        wanted = "bfloat16" if _has_bfloat16() else "float32"
    if wanted not in ("float32", "bfloat16"):
        raise TrainingError(
            f"dtype {wanted!r} is not known (NESYCD_TORCH_DTYPE or the spec): use auto, float32 or bfloat16"
        )
    return getattr(torch, wanted)


def _has_bfloat16() -> bool:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if platform.system() != "Linux":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return " avx512_bf16" in flags or " amx_bf16" in flags


def peak_memory_bytes() -> int:
    """Returns the highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- model


def _load_model(
    base_model_dir: Path,
    start_adapter: Path | None,
    settings: TrainingSettings,
    dtype: torch.dtype,
    device: torch.device,
) -> PeftModel:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(base_model_dir, dtype=dtype).to(device)
    base.config.use_cache = False
    if settings.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.manual_seed(settings.seed)
    if start_adapter is None:
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        return get_peft_model(base, config)
    config_file = start_adapter / ADAPTER_CONFIG
    if not config_file.is_file():
        raise TrainingError(f"no adapter in {start_adapter}: {ADAPTER_CONFIG} is missing")
    found = json.loads(config_file.read_text(encoding="utf-8"))
    if (found.get("r"), found.get("lora_alpha")) != (settings.rank, settings.alpha):
        raise TrainingError(
            f"the adapter in {start_adapter} has rank {found.get('r')} and alpha {found.get('lora_alpha')}, the "
            f"settings ask for {settings.rank} and {settings.alpha}: give both trainings the same, or start from base"
        )
    if found.get("base_model_name_or_path") not in (None, base_model_dir.name):
        raise TrainingError(
            f"the adapter in {start_adapter} belongs to {found['base_model_name_or_path']!r}, "
            f"not to {base_model_dir.name!r}: give an adapter of the same base model"
        )
    config = LoraConfig.from_pretrained(start_adapter)
    config.lora_dropout = settings.dropout
    config.inference_mode = False
    try:
        return PeftModel.from_pretrained(base, start_adapter, config=config, is_trainable=True)
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise TrainingError(
            f"the adapter in {start_adapter} cannot be loaded (damaged, or of another base): {error}"
        ) from error


def _loss_function(
    model: PeftModel, device: torch.device, dtype: torch.dtype
) -> Callable[[Sequence[EncodedRow]], torch.Tensor]:
    """Returns a function from a micro-batch to the summed loss of its completion tokens."""
    import torch
    from peft.helpers import disable_input_dtype_casting
    from torch.nn.functional import cross_entropy

    causal = model.get_base_model()
    transformer, head = causal.base_model, causal.get_output_embeddings()
    # Some architectures scale or cap the head's output. They get their own forward pass, prompts' logits and all.
    probe = torch.arange(1, 5, device=device)[None]
    with torch.no_grad():
        plain = torch.allclose(head(transformer(probe).last_hidden_state), causal(probe).logits, rtol=1e-2, atol=1e-2)

    def forward(ids: torch.Tensor, predicts: torch.Tensor) -> torch.Tensor:
        return head(transformer(ids).last_hidden_state[predicts]) if plain else causal(ids).logits[predicts]

    def loss_sum(rows: Sequence[EncodedRow]) -> torch.Tensor:
        length = max(len(row.ids) for row in rows)
        # Padded on the right: no real token looks to its right, so that attention needs no mask.
        ids = torch.tensor([[*row.ids, *[0] * (length - len(row.ids))] for row in rows], device=device)
        predicts = torch.tensor(
            [[row.prompt_length - 1 <= at < len(row.ids) - 1 for at in range(length)] for row in rows], device=device
        )
        labels = ids.roll(-1, dims=1)[predicts]
        # The adapter's weights stay in float32: for bfloat16 autocast casts them down, instead of peft the inputs up.
        with torch.autocast(device.type, dtype, enabled=dtype == torch.bfloat16), disable_input_dtype_casting(model):
            logits = forward(ids, predicts)
        return cross_entropy(logits.float(), labels, reduction="sum")

    return loss_sum


# --- checkpoints


def last_checkpoint(work_dir: Path, fingerprint: str) -> Path | None:
    """Returns the newest complete checkpoint of this very training.

    Args:
        work_dir: Where `checkpoint-<step>` folders are.
        fingerprint: Of rows, settings and model; a checkpoint of another training does not count.

    Returns:
        Its folder, or None. A folder without a manifest, or with a file that differs from it, is not complete.
    """
    for folder in sorted(work_dir.glob("checkpoint-*"), key=_step_of, reverse=True):
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["fingerprint"] == fingerprint and all(
                _sha256(folder / name) == digest for name, digest in manifest["files"].items()
            ):
                return folder
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def _step_of(folder: Path) -> int:
    suffix = folder.name.rpartition("-")[2]
    return int(suffix) if suffix.isdigit() else -1


def _save_checkpoint(
    work_dir: Path,
    fingerprint: str,
    model: PeftModel,
    base_name: str,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
) -> None:
    from safetensors.torch import save

    folder = work_dir / f"checkpoint-{state['step']}"
    part = work_dir / f".checkpoint-{state['step']}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names = _write_adapter(part, model, base_name)
    moments = {
        f"{name}/{key}": value.contiguous()
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }
    # Not `save_file`: its errors do not tell a full disk from others.
    _write(part / OPTIMIZER_FILE, save(moments))
    files = {name: _sha256(part / name) for name in (*names, OPTIMIZER_FILE)}
    _write(part / MANIFEST, json.dumps({"fingerprint": fingerprint, "files": files, "state": state}).encode())
    _sync(part)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    _sync(work_dir)
    for old in sorted(work_dir.glob("checkpoint-*"), key=_step_of)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)


def _restore(
    folder: Path, model: PeftModel, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(folder / ADAPTER_FILE))
    for key, value in load_file(folder / OPTIMIZER_FILE).items():
        name, _, moment = key.rpartition("/")
        parameter = parameters[name]
        # AdamW keeps its step counter on the CPU wherever the parameter is.
        optimizer.state[parameter][moment] = value if moment == "step" else value.to(parameter.device)
    return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["state"])


def _write_adapter(folder: Path, model: PeftModel, base_name: str, suffix: str = "") -> tuple[str, str]:
    """Writes the adapter's two files, the same bytes for the same weights (peft's own writer orders sets at random)."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    config = model.peft_config["default"].to_dict()
    config.update(base_model_name_or_path=base_name, inference_mode=True)
    text = json.dumps(config, indent=2, sort_keys=True, default=lambda value: sorted(value))
    _write(folder / f"{ADAPTER_FILE}{suffix}", save(tensors, metadata={"format": "pt"}))
    _write(folder / f"{ADAPTER_CONFIG}{suffix}", text.encode())
    return ADAPTER_FILE, ADAPTER_CONFIG


def _fingerprint(
    rows: Sequence[EncodedRow],
    settings: TrainingSettings,
    base_model_dir: Path,
    start_adapter: Path | None,
    dtype: torch.dtype,
) -> str:
    digest = hashlib.sha256()
    # How often checkpoints are made and how much memory is used does not change what is learned.
    relevant = {k: v for k, v in asdict(settings).items() if k not in ("checkpoint_steps", "gradient_checkpointing")}
    digest.update(json.dumps([relevant, _name(dtype), [[row.ids, row.prompt_length] for row in rows]]).encode())
    digest.update((base_model_dir / "config.json").read_bytes())
    digest.update(base_model_dir.name.encode())
    if start_adapter is not None and (start_adapter / ADAPTER_FILE).is_file():
        digest.update(_sha256(start_adapter / ADAPTER_FILE).encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
