"""Exact cosines of one query with many vectors, most of them without reading the vectors.

Beside each vector stands a rough copy of a byte a number, with how far it is off (its distance from the vector). By
Cauchy and Schwarz no cosine with a query of length 1 differs from the rough one by more than that distance, so only
the few vectors that may be among the best by their rough cosines are looked at: a quarter of the memory is read.
Without the compiled loop the product of float32 takes the place of the rough one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.knowledge.stores import Vector
from services.knowledge.stores.bm25 import grown
from services.knowledge.stores.kernels import NUMPY, Kernels

_SLACK = 1e-4  # for what float32 rounds off in rough cosines, and for the rounding of exact ones
_DIGITS = 6  # of a cosine; so the same text has the same score wherever it stands


class CosineIndex:
    """The vectors of slots 0, 1, 2 and so on, where they have one. Its user locks.

    Args:
        kernels: The inner loops.
        room: For how many slots there shall be place at first.
    """

    def __init__(self, kernels: Kernels = NUMPY, room: int = 0) -> None:
        self._kernels = kernels
        self._room = room
        self._exact: Vector = np.zeros((0, 0), np.float32)
        self._rough = np.zeros((0, 0), np.int8)
        self._scales = np.zeros(0, np.float32)
        self._off = np.zeros(0, np.float32)
        self._there = np.zeros(0, np.bool_)

    def put(self, slots: list[int], vectors: list[Vector]) -> None:
        """Sets the vectors of slots."""
        if not slots:
            return
        block = np.asarray(vectors, np.float32)
        if self._exact.shape[1] != block.shape[1]:
            self._exact = np.zeros((0, block.shape[1]), np.float32)
            self._rough = np.zeros((0, block.shape[1]), np.int8)
            self._there[:] = False
        room = max(max(slots) + 1, len(self._there), self._room)
        for name in ("_exact", "_rough", "_scales", "_off", "_there"):
            setattr(self, name, grown(getattr(self, name), room))
        self._exact[slots] = block
        self._there[slots] = True
        if self._kernels.coarse is not None:
            scales = np.maximum(np.abs(block).max(axis=1), 1e-30) / 127.0
            rough = np.round(block / scales[:, None])
            self._rough[slots], self._scales[slots] = rough, scales
            self._off[slots] = np.linalg.norm(block - rough * scales[:, None], axis=1)

    def remove(self, slots: list[int]) -> None:
        """The slots have no vector any more."""
        self._there[[slot for slot in slots if slot < len(self._there)]] = False

    def candidates(
        self, query: Vector, allowed: NDArray[np.bool_], refused: NDArray[np.bool_], count: int
    ) -> NDArray[np.float64]:
        """The cosine of every slot that may be among the `count` best, or tie with them; -inf for all others."""
        size = min(len(allowed), len(self._there))
        scores = np.full(len(allowed), -np.inf)
        there = self._there[:size] & allowed[:size] & ~refused[:size]
        if query.shape != self._exact.shape[1:]:
            return scores
        if size > 4 * count:
            rough, off = self._roughly(query, size)
            least = np.where(there, rough - off, -np.inf).astype(np.float64)
            sure = self._kernels.best(least, there, ~there, -np.inf, count)
            if len(sure) >= count:
                there &= rough + off >= least[sure].min()
        slots = np.flatnonzero(there)
        # Of float64: the sum does not depend on where the row stands.
        for start in range(0, len(slots), 4096):
            some = slots[start : start + 4096]
            scores[some] = np.round(self._exact[some].astype(np.float64) @ query.astype(np.float64), _DIGITS)
        return scores

    def _roughly(self, query: Vector, size: int) -> tuple[Vector, Vector | np.float32]:
        """Rough cosines of the first slots, and how far they may be off."""
        if self._kernels.coarse is None:
            return self._exact[:size] @ query, np.float32(_SLACK)
        rough = np.empty(size, np.float32)
        self._kernels.coarse(rough, self._rough[:size], self._scales, query)
        return rough, self._off[:size] * np.float32(np.linalg.norm(query)) + np.float32(_SLACK)
