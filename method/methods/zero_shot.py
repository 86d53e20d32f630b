"""Zero-shot chain of thought: the base model as it is, told to reason and how to end."""

from __future__ import annotations

from method.methods.base import Method

METHOD = Method(name="zero-shot", title="Zero-shot CoT", stages=("prepare", "evaluate"), prompt_mode="zero_shot")
