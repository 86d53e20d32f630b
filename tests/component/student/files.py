"""Students and adapters on disk, as runs publish them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from services.student.models import base_digest
from tests.tiny import make_tiny_model


def make_student(folder: Path) -> Path:
    """A tiny student whose weights are large enough that it writes something different for each prompt."""
    import torch
    from safetensors.torch import load_file, save_file

    make_tiny_model(folder)
    torch.manual_seed(1)
    weights = load_file(folder / "model.safetensors")
    lively = {k: v if v.dim() == 1 else torch.randn_like(v) * (v.shape[1] ** -0.5) * 1.5 for k, v in weights.items()}
    save_file(lively, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_adapter(
    artifacts: Path, name: str, student: Path, seed: int = 0, *, digest: str = "", **options: object
) -> Path:
    """Publishes an adapter that peft made, `name` as in "adapters/demo@1"; returns its folder."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    adapter, version = name.removeprefix("adapters/").split("@")
    folder = artifacts / "adapters" / adapter / version
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(student)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options})
    model = get_peft_model(model, config)
    for key, weight in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weight, std=0.4)
    model.save_pretrained(folder)
    write_manifest(folder, digest or base_digest(student))
    return folder


def write_manifest(folder: Path, digest: str) -> None:
    """The manifest of a published adapter."""
    names = ("adapter_model.safetensors", "adapter_config.json")
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    manifest = {"base_model": "tiny", "base_digest": digest, "files": files, "run": "runs/r1"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
