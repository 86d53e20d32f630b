"""What is reckoned of a model and its tokenizer, against a real one."""

from __future__ import annotations

from pathlib import Path

import yaml

from jobs.artifacts import Artifacts
from jobs.estimate import Estimate, StageEstimate, estimate
from jobs.estimate.model_size import shape_of
from jobs.spec import parse
from tests.tiny import make_tiny_model

FAMILIES = Path(__file__).resolve().parents[3] / "examples" / "families"


def reckoned(store: Artifacts) -> Estimate:
    """The demo's run with a student called tiny."""
    spec = yaml.safe_load((FAMILIES / "demo.yaml").read_text())
    spec["data"] = {"train": str(FAMILIES / "train.jsonl"), "test": str(FAMILIES / "test.jsonl")}
    spec["evaluate"].pop("conditions", None)
    return estimate(parse(spec | {"student": {"base_model": "tiny"}}), store, {})


def train_general(made: Estimate) -> StageEstimate:
    return next(stage for stage in made.stages if stage.name == "train-general")


def test_tokens_are_the_base_models_where_its_tokenizer_is_there(tmp_path: Path) -> None:
    store = Artifacts((tmp_path / "artifacts").as_uri())
    guessed = reckoned(store)
    assert "four signs each" in guessed.notes[0] and guessed.parameters == 0
    assert "not in the artifact store" in " ".join(guessed.notes)
    tiny = tmp_path / "artifacts" / "models" / "tiny"
    make_tiny_model(tiny)
    counted = reckoned(store)
    assert counted.notes[0].startswith("Tokens are those of tiny") and counted.parameters > 0
    assert train_general(counted).training_tokens != train_general(guessed).training_tokens
    (tiny / "tokenizer.json").write_text("{")
    assert "cannot be read" in reckoned(store).notes[0]


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
