"""Exact BM25 as Lucene has it (k1 1.2, b 0.75), over postings that take single changes.

idf = ln(1 + (N - df + 0.5) / (df + 0.5)); score = sum over the query's words of
idf * tf / (tf + k1 * (1 - b + b * length / average length)). A word said twice in the query counts twice.
(S. Robertson and H. Zaragoza, The Probabilistic Relevance Framework, 2009; Lucene 8 and later, BM25Similarity,
without its lossy coding of lengths.)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.knowledge.stores.kernels import NUMPY, Kernels

K1 = 1.2
B = 0.75
_Ints = NDArray[np.int64]


def grown(array: NDArray, room: int) -> NDArray:
    """The array with place for at least so many rows, the new ones zero."""
    if room <= len(array):
        return array
    more = np.zeros((max(room, len(array) * 2) - len(array), *array.shape[1:]), array.dtype)
    return np.concatenate([array, more])


class Bm25:
    """An index of documents that are numbered 0, 1, 2 and so on. Its user locks.

    All postings lie in two long arrays: a word's documents, in any order, from its start on, with room to grow. A word
    that needs more room moves to the end; where that is full, everything is laid out anew.
    """

    def __init__(self, kernels: Kernels = NUMPY) -> None:
        self._add_words = kernels.add_words
        self._words: dict[str, int] = defaultdict()
        self._words.default_factory = self._words.__len__  # type: ignore[attr-defined]
        self._starts = np.zeros(16, np.int64)
        self._sizes = np.zeros(16, np.int64)
        self._rooms = np.zeros(16, np.int64)
        self._documents = np.zeros(64, np.int32)
        self._frequencies = np.zeros(64, np.int32)
        self._used = 0
        self._lengths = np.zeros(16, np.int32)
        self._total = 0
        self._count = 0
        self._norms: NDArray[np.float64] | None = None

    def put(self, documents: Iterable[tuple[int, Sequence[str], Sequence[str] | None]]) -> None:
        """Adds documents, or changes them.

        Args:
            documents: Number, words, and the words it had before (None: it is new). New numbers follow the last one.
        """
        numbers, lengths, words = [], [], []
        for number, now, before in documents:
            if before is None:
                self._count += 1
            else:
                self._total -= len(before)
                self._remove(number, {self._words[word] for word in before})
            numbers.append(number)
            lengths.append(len(now))
            words.append(np.fromiter(map(self._words.__getitem__, now), np.int64, len(now)))
        if not numbers:
            return
        self._lengths = grown(self._lengths, self._count)
        self._lengths[numbers] = lengths
        self._total += sum(lengths)
        for name in ("_starts", "_sizes", "_rooms"):
            setattr(self, name, grown(getattr(self, name), len(self._words)))
        # Sorted pairs of word and document: equal ones lie side by side, and are the frequency.
        pairs = np.sort((np.concatenate(words) << 32) | np.repeat(np.array(numbers, np.int64), lengths))
        firsts = np.flatnonzero(np.diff(pairs, prepend=-1))
        self._append(pairs[firsts] >> 32, pairs[firsts] & 0xFFFFFFFF, np.diff(firsts, append=len(pairs)))
        self._norms = None

    def _append(self, words: _Ints, documents: _Ints, frequencies: _Ints) -> None:
        """Adds postings, sorted by word."""
        firsts = np.flatnonzero(np.diff(words, prepend=-1))
        changed, more = words[firsts], np.diff(firsts, append=len(words))
        needed = self._sizes[changed] + more
        moving = changed[needed > self._rooms[changed]]
        rooms = needed[needed > self._rooms[changed]] * 3 // 2 + 2
        if self._used + rooms.sum() > len(self._documents):
            self._lay_out(changed, needed)
        elif len(moving):
            starts = self._used + np.cumsum(rooms) - rooms
            self._copy(moving, starts, self._documents, self._frequencies)
            self._starts[moving], self._rooms[moving] = starts, rooms
            self._used += int(rooms.sum())
        places = _places(self._starts[changed] + self._sizes[changed], more)
        self._documents[places], self._frequencies[places] = documents, frequencies
        self._sizes[changed] += more

    def _lay_out(self, changed: _Ints, needed: _Ints) -> None:
        """Puts all postings one after the other into new arrays, with a fifth of room at the end."""
        words = np.arange(len(self._words))
        rooms = self._sizes[words].copy()
        rooms[changed] = needed
        rooms += rooms // 8 + 1
        starts = np.cumsum(rooms) - rooms
        self._used = int(rooms.sum())
        room = self._used * 6 // 5 + 64
        documents, frequencies = np.zeros(room, np.int32), np.zeros(room, np.int32)
        self._copy(words, starts, documents, frequencies)
        self._documents, self._frequencies = documents, frequencies
        self._starts[words], self._rooms[words] = starts, rooms

    def _copy(self, words: _Ints, starts: _Ints, documents: NDArray, frequencies: NDArray) -> None:
        old, new = _places(self._starts[words], self._sizes[words]), _places(starts, self._sizes[words])
        documents[new], frequencies[new] = self._documents[old], self._frequencies[old]

    def _remove(self, document: int, words: Iterable[int]) -> None:
        for word in words:
            start, last = self._starts[word], self._starts[word] + self._sizes[word] - 1
            at = start + int(np.flatnonzero(self._documents[start : last + 1] == document)[0])
            for array in (self._documents, self._frequencies):
                array[at] = array[last]
            self._sizes[word] -= 1

    def _known(self, words: Sequence[str]) -> tuple[list[str], _Ints, NDArray[np.float64]]:
        """The words that some document has, their numbers, and how much each says: idf times how often it is asked for."""
        counts = Counter(words)
        known = [word for word in counts if word in self._words]
        numbers = np.array([self._words[word] for word in known], np.int64)
        sizes = self._sizes[numbers]
        times = np.array([counts[word] for word in known], np.float64)
        return known, numbers, times * np.log(1.0 + (self._count - sizes + 0.5) / (sizes + 0.5))

    def _document_norms(self) -> NDArray[np.float64]:
        if self._norms is None:
            average = self._total / self._count if self._count else 0.0
            scale = K1 * B / average if average else 0.0
            self._norms = K1 * (1.0 - B) + scale * self._lengths[: self._count].astype(np.float64)
        return self._norms

    def scores(self, words: Sequence[str]) -> NDArray[np.float64]:
        """The score of every document; 0 where it has none of the words."""
        scores = np.zeros(self._count)
        _, numbers, weights = self._known(words)
        self._add_words(
            scores,
            self._starts[numbers],
            self._sizes[numbers],
            weights,
            self._documents,
            self._frequencies,
            self._document_norms(),
        )
        return scores

    def explain(self, words: Sequence[str], document: int) -> str:
        """How a document's score came about, the words that say most first."""
        norm = float(self._document_norms()[document])
        parts: list[tuple[float, str]] = []
        known, numbers, weights = self._known(words)
        counts = Counter(words)
        for word, number, weight in zip(known, numbers.tolist(), weights.tolist(), strict=True):
            start, size = int(self._starts[number]), int(self._sizes[number])
            found = np.flatnonzero(self._documents[start : start + size] == document)
            if not len(found):
                continue
            tf = int(self._frequencies[start + found[0]])
            part = weight * tf / (tf + norm)
            twice = f", {counts[word]} times in the query" if counts[word] > 1 else ""
            parts.append((part, f"{part:.4g} {word} (tf {tf}, in {size} of {self._count}{twice})"))
        return "bm25 = " + " + ".join(text for _, text in sorted(parts, key=lambda part: -part[0])[:20])


def _places(starts: _Ints, sizes: _Ints) -> _Ints:
    """The numbers from each start on, `size` of each, one after the other."""
    return np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
