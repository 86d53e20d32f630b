"""Texts and questions to measure with: real ones, and as many more as wanted made of their sentences."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.knowledge.search import words

EMBEDDER, DIMENSION = "bench", 384
_EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
OWN_FILES = (
    _EXAMPLES / "bbh" / "recorded.jsonl",
    _EXAMPLES / "families" / "facts.jsonl",
    _EXAMPLES / "families" / "expert_facts.jsonl",
)
_TEXTS = ("teacher_response", "gold_rationale", "text")


class Corpus:
    """Documents and questions.

    Args:
        files: JSONL with a text in `teacher_response`, `gold_rationale` or `text`, and perhaps a `question`.
    """

    def __init__(self, files: Sequence[Path] = OWN_FILES) -> None:
        rows = [json.loads(line) for path in files for line in path.read_text("utf-8").split("\n") if line.strip()]
        texts = (next((row[name] for name in _TEXTS if row.get(name)), "") for row in rows)
        self._texts = list(dict.fromkeys(text.strip()[:8000] for text in texts if text.strip()))
        self.questions = list(dict.fromkeys(row["question"] for row in rows if row.get("question")))
        if len(self._texts) < 100 or len(self.questions) < 100:
            raise SystemExit("the files hold too little: give at least 100 texts and 100 questions")

    def documents(self, count: int) -> list[str]:
        """Real texts first; the others put sentences of several of them together. The same at every call."""
        sentences = [part for text in self._texts for part in text.replace("\n", ". ").split(". ") if part.strip()]
        random_ = random.Random(1)
        more = (". ".join(random_.choices(sentences, k=random_.randint(4, 9))) for _ in range(count - len(self._texts)))
        return [*self._texts[:count], *more]

    def long_questions(self, count: int, length: int = 512) -> list[str]:
        """Queries of so many words."""
        random_ = random.Random(2)
        return [" ".join(" ".join(random_.choices(self.questions, k=40)).split()[:length]) for _ in range(count)]


@cache
def _word_vector(word: str) -> NDArray[np.float32]:
    return np.random.default_rng(int.from_bytes(word.encode()[-8:], "little")).standard_normal(DIMENSION, np.float32)


def vector(text: str) -> NDArray[np.float32]:
    """A vector that is near those of texts with the same words: a sum of a random one for each word, of length 1."""
    total = np.sum([_word_vector(word) for word in words(text)[:256]] or [_word_vector("")], axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)
