"""What a search is, and how two rankings become one. The rankings themselves are the store's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice

from services.knowledge.entries import Entry, EntryStatus, is_sole_source
from services.knowledge.filters import Compare, Filter, comparisons

MAX_WORDS = 512
MAX_TOP_K = 100
CANDIDATES = 100  # of each ranking that HYBRID puts together
_RANK_CONSTANT = 60  # of reciprocal rank fusion: Cormack et al., SIGIR 2009
_WORD = re.compile(r"[^\W_]+")
_ACTIVE = Compare("status", "=", EntryStatus.ACTIVE)


class SearchMode(IntEnum):
    """How to rank. The numbers are the contract's."""

    AUTO = 0
    BM25 = 1
    VECTOR = 2
    HYBRID = 3


class Fusion(IntEnum):
    """How HYBRID puts two rankings together. The numbers are the contract's."""

    RELATIVE_SCORE = 1
    RANK = 2


@dataclass(frozen=True, slots=True)
class Query:
    """A search that was checked.

    Attributes:
        text: What to look for.
        mode: BM25, VECTOR or HYBRID; never AUTO.
        top_k: At most this many results.
        minimum_score: Results below it are left out; None: none is.
        filter: Which entries may be found; without a status in it only ACTIVE ones.
        exclude: Ids of entries that are not to be found.
        exclude_sole_source_case: Entries whose only source is this case are not to be found.
        hybrid_weight: The weight of the vector ranking, 0 to 1.
        fusion: How HYBRID puts the rankings together.
        explain: Whether to say how scores came about.
        feedback_weight: How much feedback counts, 0 to 1. The library's matter: see `weighted`.
    """

    text: str
    mode: SearchMode = SearchMode.BM25
    top_k: int = 3
    minimum_score: float | None = None
    filter: Filter | None = None
    exclude: frozenset[str] = frozenset()
    exclude_sole_source_case: str = ""
    hybrid_weight: float = 0.5
    fusion: Fusion = Fusion.RELATIVE_SCORE
    explain: bool = False
    feedback_weight: float = 0.0

    @property
    def active_only(self) -> bool:
        """Whether exactly the ACTIVE entries may be found, as far as the status goes."""
        statuses = [part for part in comparisons(self.filter) if part.field == "status"]
        return not statuses or self.filter == _ACTIVE

    def accepts(self, entry: Entry) -> bool:
        """Whether the entry may be found, but for its status where active_only."""
        if entry.id in self.exclude:
            return False
        if self.exclude_sole_source_case and is_sole_source(entry, self.exclude_sole_source_case):
            return False
        return self.filter is None or self.filter.matches(entry)


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that was found."""

    entry: Entry
    score: float
    explanation: str = ""


def weighted(hits: Sequence[Hit], query: Query) -> list[Hit]:
    """Ranks candidates again by what feedback says of them.

    A score is multiplied by 1 + weight * (helpful - harmful) / (helpful + harmful + 2): one answer moves it by a third
    of the weight, and many that agree by nearly all of it.

    Args:
        hits: The candidates.
        query: Its feedback_weight, top_k and minimum_score, which the weighted score must reach.

    Returns:
        The best, ties by id.
    """
    found = []
    for hit in hits:
        helpful, harmful = hit.entry.helpful, hit.entry.harmful
        factor = 1.0 + query.feedback_weight * (helpful - harmful) / (helpful + harmful + 2)
        score = hit.score * factor
        if query.minimum_score is not None and score < query.minimum_score:
            continue
        why = f"{hit.explanation}; times {factor:.6g} for {helpful} helpful, {harmful} harmful" if query.explain else ""
        found.append(Hit(hit.entry, score, why))
    return sorted(found, key=lambda hit: (-hit.score, hit.entry.id))[: query.top_k]


def words(text: str, limit: int | None = None) -> list[str]:
    """The words that BM25 counts: lower-case runs of letters and digits.

    Args:
        text: Any text.
        limit: Only the first so many words; None: all.
    """
    if limit is None:
        return _WORD.findall(text.lower())
    return [match.group() for match in islice(_WORD.finditer(text.lower()), limit)]


def first_words(text: str, limit: int = MAX_WORDS) -> str:
    """The text up to its so manieth word, as it was written."""
    end = len(text)
    for count, match in enumerate(_WORD.finditer(text)):
        if count == limit:
            end = match.start()
            break
    return text[:end]


def fuse(
    lexical: Mapping[str, float], vector: Mapping[str, float], weight: float, fusion: Fusion
) -> dict[str, tuple[float, str]]:
    """Puts two rankings together.

    Args:
        lexical: BM25 score of each id, best first.
        vector: Cosine of each id, best first.
        weight: The weight of the vector ranking, 0 to 1.
        fusion: RELATIVE_SCORE scales each ranking's scores to 0..1; RANK takes 1 / (60 + rank), of the best 1 / 60.

    Returns:
        Score and explanation of each id, best first; ties by id.
    """
    shares: dict[str, list[tuple[str, float, float]]] = {}
    for label, ranking, share in (("bm25", lexical, 1.0 - weight), ("vector", vector, weight)):
        if share <= 0.0 or not ranking:
            continue
        low, high = min(ranking.values()), max(ranking.values())
        for rank, (key, score) in enumerate(ranking.items()):
            if fusion is Fusion.RANK:
                scaled = 1.0 / (_RANK_CONSTANT + rank)  # the best has rank 0, as in Weaviate
            else:
                scaled = (score - low) / (high - low) if high > low else 1.0
            shares.setdefault(key, []).append((label, score, share * scaled))
    fused = {
        key: (
            sum(part for _, _, part in parts),
            " + ".join(f"{part:.6g} ({label} {score:.6g})" for label, score, part in parts),
        )
        for key, parts in shares.items()
    }
    return dict(sorted(fused.items(), key=lambda item: (-item[1][0], item[0])))
