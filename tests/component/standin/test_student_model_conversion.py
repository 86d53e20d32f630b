"""The examples' student, converted for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import student_model


@pytest.mark.slow
def test_converted_model_is_complete_and_knows_what_the_original_knows(tmp_path: Path) -> None:
    target = tmp_path / "models" / "student"
    assert student_model.main([str(target)]) == 0
    assert student_model.ensure(target) is False
    first = target.stat().st_ino
    student_model.convert(student_model.find_gguf(), target)  # as by another pod that began at the same time
    assert target.stat().st_ino == first, "a student may read it already"
    assert [path.name for path in target.parent.iterdir()] == ["student"]

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(target)
    model = AutoModelForCausalLM.from_pretrained(target)
    assert model.dtype == torch.float32
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(output[0]).startswith("The capital of France is Paris")
