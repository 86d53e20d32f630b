"""What is reckoned of a model and its tokenizer, against a real one."""

from __future__ import annotations

import shutil
from pathlib import Path

from jobs.artifacts import Artifacts
from jobs.estimate.model_size import shape_of
from tests.estimates import reckoned, stage
from tests.tiny import make_tiny_model


def test_tokens_are_the_base_models_where_its_tokenizer_is_there(tmp_path: Path) -> None:
    store = Artifacts((tmp_path / "artifacts").as_uri())
    guessed = reckoned(store, student={"base_model": "tiny"})
    assert (
        "four signs each" in guessed.notes[0]
        and guessed.parameters == 0
        and "not in the artifact store" in " ".join(guessed.notes)
    )
    make_tiny_model(tmp_path / "artifacts" / "models" / "tiny")
    counted = reckoned(store, student={"base_model": "tiny"})
    assert counted.notes[0].startswith("Tokens are those of tiny") and counted.parameters > 0
    assert stage(counted, "train-general").training_tokens != stage(guessed, "train-general").training_tokens
    (tmp_path / "artifacts" / "models" / "tiny" / "tokenizer.json").write_text("{")
    assert "cannot be read" in reckoned(store, student={"base_model": "tiny"}).notes[0]
    shutil.rmtree(tmp_path / "artifacts")


def test_a_config_gives_the_same_as_the_model_that_is_made_of_it() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=128, tie_word_embeddings=False,
    )  # fmt: skip
    shape = shape_of(config.to_dict())
    model = LlamaForCausalLM(config)
    assert shape is not None and shape.parameters == sum(p.numel() for p in model.parameters())
    tuned = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.lora(3) == sum(p.numel() for p in tuned.parameters() if p.requires_grad)
