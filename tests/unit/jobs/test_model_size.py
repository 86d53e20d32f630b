"""What a config.json tells of a model's size is what its weights have."""

from __future__ import annotations

import pytest

from jobs.estimate.model_size import Shape, known_shape, shape_of

PUBLISHED = {
    "TinyLlama-1.1B": 1_100_048_384,
    "Llama-2-7b-hf": 6_738_415_616,
    "Meta-Llama-3-8B": 8_030_261_248,
    "Qwen2-0.5B": 494_032_768,
    "Qwen2-1.5B-Instruct": 1_543_714_304,
    "Qwen2-7B": 7_615_616_512,
    "smollm2-135m-instruct": 134_515_008,
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_the_papers_students_have_the_parameters_that_were_published(name: str, parameters: int) -> None:
    shape = known_shape(name)
    assert shape is not None and shape.parameters == parameters


@pytest.mark.parametrize("config", [{}, {"model_type": "gpt2", "n_embd": 4}, {"num_attention_heads": "x"}])
def test_another_form_of_model_is_not_guessed(config: dict[str, object]) -> None:
    assert shape_of(config) is None and known_shape("gpt2") is None


def test_memory_grows_with_what_it_is_made_of() -> None:
    shape = known_shape("Qwen2-0.5B")
    assert isinstance(shape, Shape)
    usual = {"rank": 32, "width": 2, "tokens": 4096, "targets": 1024, "checkpointing": False}
    least = shape.training_bytes(**usual)
    assert least > shape.parameters * 2
    for name, value in {"rank": 64, "width": 4, "tokens": 8192, "targets": 2048}.items():
        assert shape.training_bytes(**{**usual, name: value}) > least, name
    assert shape.training_bytes(**{**usual, "checkpointing": True}) < least
    assert shape.serving_bytes(width=2, tokens=0, copies=0) == shape.parameters * 2
    assert shape.serving_bytes(width=2, tokens=1000, copies=0) - shape.parameters * 2 == 1000 * 24 * 2 * 128 * 2
