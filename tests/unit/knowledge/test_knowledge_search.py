"""Fusion of rankings, words of queries, and vectors that follow every edit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.common.errors import FailedPrecondition
from services.knowledge.embedders import Embedder
from services.knowledge.entries import Entry
from services.knowledge.library import Creation, Library
from services.knowledge.search import Fusion, Query, SearchMode, first_words, fuse, words
from services.knowledge.stores.embedded import EmbeddedStore


def test_words_are_runs_of_letters_and_digits() -> None:
    assert first_words("a b, c d", 2) == "a b, "
    assert words("Don't_stop Élan 3.5") == ["don", "t", "stop", "élan", "3", "5"]


def test_fusion_scales_scores_or_takes_ranks() -> None:
    lexical, vector = {"a": 4.0, "b": 2.0, "c": 1.0}, {"b": 0.9, "d": 0.1}
    relative = fuse(lexical, vector, 0.5, Fusion.RELATIVE_SCORE)
    assert {key: score for key, (score, _) in relative.items()} == pytest.approx(
        {"b": 0.5 + 0.5 / 3, "a": 0.5, "c": 0, "d": 0}
    )
    assert list(relative) == ["b", "a", "c", "d"]
    ranks = fuse(lexical, vector, 0.25, Fusion.RANK)
    assert ranks["b"][0] == pytest.approx(0.75 / 61 + 0.25 / 60)
    assert fuse(lexical, vector, 0.0, Fusion.RANK).keys() == lexical.keys()


async def test_vectors_follow_every_edit_and_are_there_after_a_restart(tmp_path: Path, embedder: Embedder) -> None:
    library = Library(EmbeddedStore(tmp_path, compiled=False), embedder)
    await library.open()
    await library.create_base("kb", "", "")
    entries = [
        (await library.create("kb", Creation(Entry("", "", text))))[0] for text in ("aaaa b", "cccc d", "eeee f")
    ]
    await library.update("kb", entries[1].id, "", {"text": "zzzz y"})

    async def check(one: Library) -> None:
        query = Query("zz", SearchMode.VECTOR, top_k=9, explain=True)
        hits, _ = await one.search("kb", query)
        matrix = np.array(await embedder.embed(["aaaa b", "zzzz y", "eeee f"]))
        cosines = matrix @ await embedder.embed_query("zz")
        found = {hit.entry.id: hit.score for hit in hits}
        assert found == pytest.approx(dict(zip([e.id for e in entries], cosines.tolist(), strict=True)), abs=1e-5)
        hybrid, _ = await one.search("kb", Query("zzzz", SearchMode.AUTO, explain=True))
        assert hybrid[0].entry.id == entries[1].id
        assert hybrid[0].score == pytest.approx(1.0)

    await check(library)
    await library.close()
    library = Library(EmbeddedStore(tmp_path, compiled=False), embedder)
    await library.open()
    await check(library)
    await library.close()
    # Without an embedder searches go by words, and a text that changes loses its vector.
    library = Library(EmbeddedStore(tmp_path, compiled=False))
    await library.open()
    assert (await library.search("kb", Query("zzzz", SearchMode.AUTO)))[0][0].score != pytest.approx(1.0)
    with pytest.raises(FailedPrecondition) as error:
        await library.search("kb", Query("zzzz", SearchMode.VECTOR))
    assert error.value.reason == "NO_EMBEDDER"
    await library.update("kb", entries[1].id, "", {"text": "cccc d"})
    await library.close()
    # With one again, the missing vector is made in the background.
    library = Library(EmbeddedStore(tmp_path, compiled=False), embedder)
    await library.open()
    await library._vectors.complete()
    hits, _ = await library.search("kb", Query("cccc d", SearchMode.VECTOR, top_k=1))
    assert hits[0].entry.id == entries[1].id
    assert hits[0].score == pytest.approx(1.0)
    await library.close()
