"""How large a student is, and what memory it takes: reckoned from its config.json, without its weights.

For decoders of the Llama form (Llama, Mistral, Qwen2, SmolLM): grouped attention, a gated feed-forward part, RMS norms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The form of a decoder.

    Attributes:
        hidden: Width of the residual stream.
        layers: Number of layers.
        heads: Attention heads.
        kv_heads: Heads of keys and values.
        feed_forward: Width of the feed-forward part.
        vocabulary: Tokens.
        tied: Whether the output head is the input embedding.
        attention_bias: Whether queries, keys and values have a bias (Qwen2).
        head_width: Width of a head; 0: hidden / heads.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    tied: bool = False
    attention_bias: bool = False
    head_width: int = 0

    @property
    def queries(self) -> int:
        """Width of all queries."""
        return self.heads * (self.head_width or self.hidden // self.heads)

    @property
    def keys(self) -> int:
        """Width of all keys; values are as wide."""
        return self.kv_heads * (self.head_width or self.hidden // self.heads)

    @property
    def linears(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each linear layer of one decoder layer."""
        attention = [
            (self.hidden, self.queries),
            (self.hidden, self.keys),
            (self.hidden, self.keys),
            (self.queries, self.hidden),
        ]
        return [
            *attention,
            (self.hidden, self.feed_forward),
            (self.hidden, self.feed_forward),
            (self.feed_forward, self.hidden),
        ]

    @property
    def parameters(self) -> int:
        """All parameters."""
        bias = self.queries + 2 * self.keys if self.attention_bias else 0
        layer = sum(a * b for a, b in self.linears) + bias + 2 * self.hidden
        return self.layers * layer + self.vocabulary * self.hidden * (1 if self.tied else 2) + self.hidden

    def lora(self, rank: int) -> int:
        """Parameters of a LoRA adapter on all linear layers but the output head."""
        return self.layers * sum(rank * (a + b) for a, b in self.linears)

    def training_bytes(self, *, rank: int, width: int, tokens: int, targets: int, checkpointing: bool) -> int:
        """What training takes at its peak: weights, adapter with its gradients and AdamW's two moments, activations, logits.

        Args:
            rank: Of the adapter.
            width: Bytes of a number of the base model, 2 or 4.
            tokens: Of the largest micro-batch.
            targets: Those of them that have loss.
            checkpointing: Whether activations are made again in the backward pass.
        """
        # Kept for the backward pass of a layer: what its two norms read, make of it in float32, and give; queries and keys
        # before and after the rotation, values, what attention gives, and four tensors of the feed-forward part.
        layer = 8 * self.hidden + 3 * self.queries + 3 * self.keys + 4 * self.feed_forward + 7 * rank
        kept = self.layers * self.hidden + layer if checkpointing else self.layers * layer
        logits = 3 * targets * self.vocabulary * 4  # float32: the logits, their softmax, the gradient
        return self.parameters * width + self.lora(rank) * 16 + tokens * kept * width + logits

    def serving_bytes(self, *, width: int, tokens: int, copies: int = 1) -> int:
        """What serving takes: weights (a set of the linear layers for each adapter that is kept ready) and keys and values.

        Args:
            width: Bytes of a number.
            tokens: Of all questions that are answered together.
            copies: Sets of weights that are kept ready besides the base model's.
        """
        adapters = copies * self.layers * sum(a * b for a, b in self.linears)
        return (self.parameters + adapters + 2 * self.layers * self.keys * tokens) * width


_KNOWN = {
    "tinyllama11b": Shape(2048, 22, 32, 4, 5632, 32_000),
    "llama27b": Shape(4096, 32, 32, 32, 11_008, 32_000),
    "llama38b": Shape(4096, 32, 32, 8, 14_336, 128_256),
    "qwen205b": Shape(896, 24, 14, 2, 4864, 151_936, tied=True, attention_bias=True),
    "qwen215b": Shape(1536, 28, 12, 2, 8960, 151_936, tied=True, attention_bias=True),
    "qwen27b": Shape(3584, 28, 28, 4, 18_944, 152_064, attention_bias=True),
    "smollm2135m": Shape(576, 30, 9, 3, 1536, 49_152, tied=True),
}
"""The paper's six students and the example's, by their names without separators."""


def known_shape(name: str) -> Shape | None:
    """The form of a model that is known by its name, for instance "Qwen2-0.5B-Instruct"; None of another."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower()).replace("meta", "")
    return next((shape for start, shape in _KNOWN.items() if plain.startswith(start)), None)


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The form that a config.json tells; None where it is not of the Llama form."""
    try:
        heads = int(config["num_attention_heads"])
        return Shape(
            hidden=int(config["hidden_size"]), layers=int(config["num_hidden_layers"]), heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads), feed_forward=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]), tied=bool(config.get("tie_word_embeddings", False)),
            attention_bias=bool(config.get("attention_bias", config.get("model_type") == "qwen2")),
            head_width=int(config.get("head_dim") or 0),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return None
