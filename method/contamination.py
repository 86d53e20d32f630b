"""Whether test rows stand in what was trained on or is read: training rows and the texts of knowledge entries.

Compared are questions as words, without regard to case and punctuation: whether one is the same, and how many of its
n-grams stand in one other text. N-grams that many test rows have in common are a task's own wording ("Is the following
sentence plausible?"); they show nothing and do not count.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from method.prompts import Row

NGRAM = 8
NEAR = 0.5
"""From this share of its n-grams in one other text on, a row counts as nearly the same."""
_TOKEN = re.compile(r"[^\W_]+|[^\w\s.,;:!?'\"“”‘’]")  # brackets and signs are words too: some tasks are made of them
_COMMON_SHARE, _COMMON_ROWS = 0.01, 5
_EXAMPLES = 10

Where = Literal["training row", "entry"]


@dataclass(frozen=True)
class Overlap:
    """What a test row shares with the text that it shares most with.

    Attributes:
        row_id: the test row.
        where: what kind of text the other one is.
        source: id of that training row, or name of that entry.
        same: whether it is the same question.
        share: the part of the row's n-grams that stand in the other text, 0 to 1.
        words: the first words that both have, n of them; all of them where the questions are the same.
    """

    row_id: str
    where: Where
    source: str
    same: bool
    share: float
    words: str


@dataclass(frozen=True)
class Contamination:
    """What a check found.

    Attributes:
        rows: number of test rows.
        training: number of training rows.
        entries: number of entries.
        n: length of the n-grams, in words.
        overlaps: of each test row that shares anything, the worst first.
    """

    rows: int
    training: int
    entries: int
    n: int
    overlaps: tuple[Overlap, ...]

    def of(self, where: Where) -> tuple[Overlap, ...]:
        """The overlaps with one kind of text."""
        return tuple(overlap for overlap in self.overlaps if overlap.where == where)

    def summary(self) -> dict[str, Any]:
        """The figures, a sentence for a report, examples, and every overlap, as JSON values."""
        same = [o for o in self.overlaps if o.same]
        known = {o.row_id for o in same}
        near = [o for o in self.overlaps if o.row_id not in known and o.share >= NEAR]
        rows = len({o.row_id for o in self.overlaps})
        texts = [("a training row", "training rows", self.training), ("an entry", "entries", self.entries)]
        texts = [text for text in texts if text[2]] or texts
        sentence = (
            f"Of {self.rows} test rows, {len(known)} are also {' or '.join(one for one, _, _ in texts)}, "
            f"{len({o.row_id for o in near})} have half or more of their {self.n}-grams in one, and {rows} have any "
            f"({', '.join(f'{number} {several}' for _, several, number in texts)})."
        )
        return {
            "n": self.n, "rows": self.rows, "training": self.training, "entries": self.entries,
            "same": len(known), "near": len({o.row_id for o in near}), "any": rows,
            "sentence": sentence,
            "examples": [_line(o, self.n) for o in [*same, *near][:_EXAMPLES]],
            "overlaps": [
                {"id": o.row_id, "where": o.where, "source": o.source, "same": o.same, "share": round(o.share, 4), "words": o.words}
                for o in self.overlaps
            ],
        }  # fmt: skip


def check(
    test: Sequence[Row], training: Iterable[Row], entries: Mapping[str, str] | None = None, *, n: int = NGRAM
) -> Contamination:
    """Compares test rows with training rows and entries.

    Args:
        test: the test rows.
        training: the training rows.
        entries: text of each entry by its name.
        n: length of the n-grams, in words. A shorter question is compared as a whole.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}: an n-gram has at least one word")
    index = _Index(test, n)
    trained = [(row.id, row.question) for row in training]
    read = list((entries or {}).items())
    found = [*index.compare("training row", trained), *index.compare("entry", read)]
    found.sort(key=lambda o: (not o.same, -o.share, o.row_id, o.where))
    return Contamination(len(test), len(trained), len(read), n, tuple(found))


class _Index:
    """The n-grams of the test rows."""

    def __init__(self, test: Sequence[Row], n: int) -> None:
        self._test, self._n = test, n
        words = [_words(row.question) for row in test]
        self._same: dict[tuple[str, ...], list[int]] = defaultdict(list)
        holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, row_words in enumerate(words):
            self._same[tuple(row_words)].append(place)
            for gram in dict.fromkeys(_grams(row_words, n)):
                holders[gram].append(place)
        most = max(_COMMON_ROWS, int(_COMMON_SHARE * len(test)))
        self._holders = {gram: places for gram, places in holders.items() if len(places) <= most}
        self._counts = Counter(place for places in self._holders.values() for place in places)

    def compare(self, where: Where, texts: Iterable[tuple[str, str]]) -> list[Overlap]:
        """For each test row that shares anything with one of the texts, the one that it shares most with."""
        best: dict[int, Overlap] = {}

        def found(place: int, name: str, same: bool, share: float, words: Sequence[str]) -> None:
            known = best.get(place)
            if known is None or (same, share) > (known.same, known.share):
                best[place] = Overlap(self._test[place].id, where, name, same, share, " ".join(words))

        for name, text in texts:
            words = _words(text)
            whole = self._same.get(tuple(words), []) if words else []
            for place in whole:
                found(place, name, True, 1.0, words)
            shared: dict[int, list[tuple[str, ...]]] = defaultdict(list)
            for gram in dict.fromkeys(_grams(words, self._n)):
                for place in self._holders.get(gram, ()):
                    shared[place].append(gram)
            for place, grams in shared.items():
                if place not in whole:
                    found(place, name, False, len(grams) / self._counts[place], grams[0])
        return list(best.values())


def _words(text: str) -> list[str]:
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _line(overlap: Overlap, n: int) -> str:
    what = "is the same as" if overlap.same else f"has {overlap.share:.0%} of its {n}-grams in"
    return f"{overlap.row_id} {what} {overlap.where} {overlap.source}: “{overlap.words[:200]}”"
