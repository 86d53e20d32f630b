"""The inner loops of a search, compiled where numba is there (a fifth of the time, and other threads run meanwhile), else numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Kernels(NamedTuple):
    """The loops; see the numpy versions for what they do."""

    add_words: Callable[..., None]
    best: Callable[..., NDArray[np.int64]]
    coarse: Callable[..., None] | None  # numpy has nothing that is faster than the exact product


def _add_words(
    scores: NDArray[np.float64],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    weights: NDArray[np.float64],
    documents: NDArray[np.int32],
    frequencies: NDArray[np.int32],
    norms: NDArray[np.float64],
) -> None:
    """Adds what each word's postings, `size` from `start`, are worth to the scores of their documents."""
    for start, size, weight in zip(starts.tolist(), sizes.tolist(), weights.tolist(), strict=True):
        found, frequency = documents[start : start + size], frequencies[start : start + size]
        scores[found] += weight * frequency / (frequency + norms[found])


def _best(
    scores: NDArray[np.float64], allowed: NDArray[np.bool_], refused: NDArray[np.bool_], floor: float, count: int
) -> NDArray[np.int64]:
    """The allowed slots with the `count` highest scores above the floor, and those that tie with the last of them."""
    slots = np.flatnonzero((scores > floor) & allowed & ~refused)
    if len(slots) <= count:
        return slots
    values = scores[slots]
    return slots[values >= np.partition(values, len(slots) - count)[len(slots) - count]]


NUMPY = Kernels(_add_words, _best, None)


def compiled() -> Kernels:
    """The compiled loops, ready to run; those of numpy where there is no numba."""
    try:
        from numba import njit
    except ImportError:
        return NUMPY

    def add_words(scores, starts, sizes, weights, documents, frequencies, norms):  # type: ignore[no-untyped-def]
        for word in range(starts.size):
            weight = weights[word]
            for i in range(starts[word], starts[word] + sizes[word]):
                document = documents[i]
                frequency = frequencies[i]
                scores[document] += weight * frequency / (frequency + norms[document])

    def best(scores, allowed, refused, floor, count):  # type: ignore[no-untyped-def]
        heap = np.empty(count, np.float64)  # the highest so far, the lowest of them first
        size = 0
        for slot in range(scores.size):
            score = scores[slot]
            if not score > floor or not allowed[slot] or refused[slot]:
                continue
            if size < count:
                at = size
                size += 1
                while at > 0 and heap[(at - 1) // 2] > score:
                    heap[at] = heap[(at - 1) // 2]
                    at = (at - 1) // 2
                heap[at] = score
            elif score > heap[0]:
                at = 0
                while True:
                    child = 2 * at + 1
                    if child >= size:
                        break
                    if child + 1 < size and heap[child + 1] < heap[child]:
                        child += 1
                    if heap[child] >= score:
                        break
                    heap[at] = heap[child]
                    at = child
                heap[at] = score
            if size == count:
                floor = max(floor, np.nextafter(heap[0], -np.inf))
        slots = np.empty(scores.size if size else 0, np.int64)
        found = 0
        for slot in range(slots.size):
            if scores[slot] > floor and allowed[slot] and not refused[slot]:
                slots[found] = slot
                found += 1
        return slots[:found].copy()

    def coarse(scores, rows, scales, query):  # type: ignore[no-untyped-def]
        for row in range(rows.shape[0]):
            total = np.float32(0)
            for i in range(rows.shape[1]):
                total += np.float32(rows[row, i]) * query[i]
            scores[row] = total * scales[row]

    def build(function: Any, **options: Any) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no folder to keep the compiled code in: compile at every start
            return njit(nogil=True, **options)(function)

    # The order in which rough products are added up does not matter; exact scores are never added in another one.
    kernels = Kernels(build(add_words), build(best), build(coarse, fastmath=True))
    _warm(kernels)
    return kernels


def _warm(kernels: Kernels) -> None:
    """Compiles now, while nobody waits."""
    one, none, yes = np.ones(1), np.zeros(1, np.int64), np.ones(1, np.bool_)
    scores = np.zeros(1)
    kernels.add_words(scores, none, none + 1, one, np.zeros(1, np.int32), np.ones(1, np.int32), one)
    kernels.best(scores, yes, ~yes, 0.0, 1)
    if kernels.coarse is not None:
        kernels.coarse(
            np.zeros(1, np.float32), np.ones((1, 1), np.int8), np.ones(1, np.float32), np.ones(1, np.float32)
        )
