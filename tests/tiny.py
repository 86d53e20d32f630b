"""A student that fits into a test: a Llama of a few thousand random weights, with a tokenizer of single characters; and rows for it.

`python -m tests.tiny FOLDER` makes it for tests that are to load no torch themselves.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A training row."""

    row_id: str
    prompt: str
    completion: str


ROWS = [
    Row(f"r{i}", f"legs has the {word}", "six" if i % 2 else "four four")
    for i, word in enumerate("ant bee cat dog eel fox gnu hen".split())
]


def make_tiny_model(folder: Path, seed: int = 0, *, spread: float = 0.02) -> Path:
    """Writes a transformers folder (safetensors, tokenizer), the same bytes each time, and returns it.

    Args:
        folder: Where.
        seed: Of the weights.
        spread: Their standard deviation; with 0.3 it learns a few rows in a few steps.
    """
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    characters = sorted({chr(c) for c in range(32, 127)} | {"\n"})
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=1024, pad_token_id=0, eos_token_id=1, bos_token_id=1,
            tie_word_embeddings=True, initializer_range=spread,
        )
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    wrapped.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    make_tiny_model(Path(sys.argv[1]))
