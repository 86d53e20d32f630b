"""A Llama of 5,000 random parameters with a vocabulary of words, and rows for it: trains in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WORDS = "ant bee cat dog eel fox gnu hen legs has six four the how many".split()


@dataclass(frozen=True)
class Row:
    row_id: str
    prompt: str
    completion: str


ROWS = [
    Row(f"r{i}", f"how many legs has the {word}", "six" if i % 2 else "four four") for i, word in enumerate(WORDS[:8])
]


def make_model(folder: Path) -> Path:
    """Writes the model and its tokenizer as a transformers folder; the same bytes each time."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        eos_token_id=0,
        bos_token_id=None,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
