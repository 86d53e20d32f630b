"""Exact BM25 as Lucene has it (k1 1.2, b 0.75), over postings that take single changes.

idf = ln(1 + (N - df + 0.5) / (df + 0.5)); score = sum over the query's words of
idf * tf / (tf + k1 * (1 - b + b * length / average length)). A word said twice in the query counts twice.
(S. Robertson and H. Zaragoza, The Probabilistic Relevance Framework, 2009; Lucene 8 and later, BM25Similarity,
without its lossy coding of lengths.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75

_Kernel = Callable[..., None]


def _add_numpy(scores: NDArray, documents: NDArray, frequencies: NDArray, norms: NDArray, weight: float) -> None:
    scores[documents] += weight * frequencies / (frequencies + norms[documents])


def load_kernel() -> _Kernel:
    """The inner loop: compiled where numba is there (a fifth of the time), else numpy."""
    try:
        from numba import njit
    except ImportError:
        return _add_numpy

    def add(scores, documents, frequencies, norms, weight):  # type: ignore[no-untyped-def]
        for i in range(documents.size):
            document = documents[i]
            frequency = frequencies[i]
            scores[document] += weight * frequency / (frequency + norms[document])

    try:
        compiled = njit(cache=True)(add)
    except RuntimeError:  # no folder to keep the compiled code in: compile at every start
        compiled = njit(add)
    # Compiles now, while nobody waits.
    compiled(np.zeros(1), np.zeros(1, np.int32), np.ones(1, np.int32), np.ones(1), 1.0)
    return compiled


class _Posting:
    """The documents that have a word, ascending, with how often; arrays with room to grow."""

    __slots__ = ("documents", "frequencies", "size")

    def __init__(self) -> None:
        self.size = 0
        self.documents = np.empty(2, np.int32)
        self.frequencies = np.empty(2, np.int32)

    def append(self, documents: Sequence[int], frequencies: Sequence[int]) -> None:
        """Adds documents that are not there; they are ascending."""
        if len(documents) == 1 and self.size and documents[0] < self.documents[self.size - 1]:
            self._insert(documents[0], frequencies[0])
            return
        needed = self.size + len(documents)
        self._reserve(needed)
        sorts = bool(self.size) and documents[0] < self.documents[self.size - 1]
        self.documents[self.size : needed] = documents
        self.frequencies[self.size : needed] = frequencies
        self.size = needed
        if sorts:
            order = np.argsort(self.documents[:needed], kind="stable")
            self.documents[:needed] = self.documents[:needed][order]
            self.frequencies[:needed] = self.frequencies[:needed][order]

    def _reserve(self, needed: int) -> None:
        if needed > len(self.documents):
            room = max(needed, len(self.documents) * 2)
            self.documents = np.concatenate([self.documents[: self.size], np.empty(room - self.size, np.int32)])
            self.frequencies = np.concatenate([self.frequencies[: self.size], np.empty(room - self.size, np.int32)])

    def _insert(self, document: int, frequency: int) -> None:
        at = int(np.searchsorted(self.documents[: self.size], document))
        self._reserve(self.size + 1)
        for array, value in ((self.documents, document), (self.frequencies, frequency)):
            array[at + 1 : self.size + 1] = array[at : self.size].copy()
            array[at] = value
        self.size += 1

    def remove(self, document: int) -> None:
        """Takes a document out."""
        at = int(np.searchsorted(self.documents[: self.size], document))
        for array in (self.documents, self.frequencies):
            array[at : self.size - 1] = array[at + 1 : self.size].copy()
        self.size -= 1


class Bm25:
    """An index of documents that are numbered 0, 1, 2 and so on. Its user locks."""

    def __init__(self, kernel: _Kernel = _add_numpy) -> None:
        self._kernel = kernel
        self._postings: dict[str, _Posting] = {}
        self._lengths = np.zeros(16, np.int32)
        self._total = 0
        self._count = 0
        self._norms: NDArray[np.float64] | None = None

    def put(self, documents: Iterable[tuple[int, Sequence[str], Sequence[str] | None]]) -> None:
        """Adds documents, or changes them.

        Args:
            documents: Number, words, and the words it had before (None: it is new). New numbers follow the last one.
        """
        grouped: dict[str, tuple[list[int], list[int]]] = {}
        for number, words, before in sorted(documents, key=lambda document: document[0]):
            if before is None:
                self._count += 1
            else:
                self._total -= len(before)
                for word in set(before):
                    posting = self._postings[word]
                    posting.remove(number)
                    if not posting.size:
                        del self._postings[word]
            if number >= len(self._lengths):
                self._lengths = np.concatenate([self._lengths, np.zeros(max(len(self._lengths), number), np.int32)])
            self._lengths[number] = len(words)
            self._total += len(words)
            for word, frequency in Counter(words).items():
                numbers, frequencies = grouped.setdefault(word, ([], []))
                numbers.append(number)
                frequencies.append(frequency)
        for word, (numbers, frequencies) in grouped.items():
            if word not in self._postings:
                self._postings[word] = _Posting()
            self._postings[word].append(numbers, frequencies)
        self._norms = None

    def idf(self, word: str) -> float:
        """How much a word says; 0 where no document has it."""
        posting = self._postings.get(word)
        if posting is None:
            return 0.0
        return math.log(1.0 + (self._count - posting.size + 0.5) / (posting.size + 0.5))

    def scores(self, words: Sequence[str]) -> NDArray[np.float64]:
        """The score of every document; 0 where it has none of the words."""
        scores = np.zeros(self._count)
        if self._norms is None:
            average = self._total / self._count if self._count else 0.0
            scale = K1 * B / average if average else 0.0
            self._norms = K1 * (1.0 - B) + scale * self._lengths[: self._count].astype(np.float64)
        for word, times in Counter(words).items():
            posting = self._postings.get(word)
            if posting is not None:
                size = posting.size
                self._kernel(
                    scores, posting.documents[:size], posting.frequencies[:size], self._norms, times * self.idf(word)
                )
        return scores

    def explain(self, words: Sequence[str], document: int) -> str:
        """How a document's score came about, the words that say most first."""
        self.scores(())
        assert self._norms is not None
        parts: list[tuple[float, str]] = []
        for word, times in Counter(words).items():
            posting = self._postings.get(word)
            if posting is None:
                continue
            at = int(np.searchsorted(posting.documents[: posting.size], document))
            if at == posting.size or posting.documents[at] != document:
                continue
            tf = int(posting.frequencies[at])
            part = times * self.idf(word) * tf / (tf + float(self._norms[document]))
            twice = f", {times} times in the query" if times > 1 else ""
            parts.append((part, f"{part:.4g} {word} (tf {tf}, in {posting.size} of {self._count}{twice})"))
        return "bm25 = " + " + ".join(text for _, text in sorted(parts, key=lambda part: -part[0])[:20])
