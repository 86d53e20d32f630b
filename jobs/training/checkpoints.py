"""Checkpoints and adapters on disk: safetensors and JSON, complete or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.training.rows import EncodedRow
from jobs.training.settings import TrainingSettings
from services.common.disk import sync_folder

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER_FILE = "optimizer.safetensors"
MANIFEST = "manifest.json"
KEPT_CHECKPOINTS = 2


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


def save_checkpoint(
    work_dir: Path,
    fingerprint: str,
    model: PeftModel,
    base_name: str,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
) -> None:
    """Writes `checkpoint-<step>`, whole or not at all, and removes old ones.

    Args:
        work_dir: Where the checkpoints are.
        fingerprint: Of the training.
        model: The student.
        base_name: The base model's name.
        parameters: The adapter's, by name.
        optimizer: AdamW.
        state: The loop's own state, as JSON values; "step" among them.
    """
    from safetensors.torch import save

    folder = work_dir / f"checkpoint-{state['step']}"
    part = work_dir / f".checkpoint-{state['step']}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names = write_adapter(part, model, base_name)
    moments = {
        f"{name}/{key}": value.contiguous()
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }
    # Not `save_file`: its errors do not tell a full disk from others.
    _write(part / OPTIMIZER_FILE, save(moments))
    files = {name: _sha256(part / name) for name in (*names, OPTIMIZER_FILE)}
    _write(part / MANIFEST, json.dumps({"fingerprint": fingerprint, "files": files, "state": state}).encode())
    sync_folder(part)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    sync_folder(work_dir)
    for old in sorted(work_dir.glob("checkpoint-*"), key=_step_of)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)


def restore(
    folder: Path, model: PeftModel, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Brings model and optimiser to where a checkpoint was; returns the loop's own state."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(folder / ADAPTER_FILE))
    for key, value in load_file(folder / OPTIMIZER_FILE).items():
        name, _, moment = key.rpartition("/")
        parameter = parameters[name]
        # AdamW keeps its step counter on the CPU wherever the parameter is.
        optimizer.state[parameter][moment] = value if moment == "step" else value.to(parameter.device)
    return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["state"])


def write_adapter(folder: Path, model: PeftModel, base_name: str, suffix: str = "") -> tuple[str, str]:
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


def fingerprint_of(
    rows: Sequence[EncodedRow],
    settings: TrainingSettings,
    base_model_dir: Path,
    start_adapter: Path | None,
    dtype: torch.dtype,
) -> str:
    """Digest of all that decides what is learned; a checkpoint belongs to one."""
    digest = hashlib.sha256()
    # How often checkpoints are made, how much memory is used and how many compute does not change what is learned.
    aside = ("checkpoint_steps", "gradient_checkpointing", "processes")
    relevant = {name: value for name, value in asdict(settings).items() if name not in aside}
    digest.update(json.dumps([relevant, str(dtype), [astuple(row) for row in rows]]).encode())
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
