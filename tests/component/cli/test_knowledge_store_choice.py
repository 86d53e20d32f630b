"""`nesycd up` on Weaviate: a server of its own that wants a key, the change of the back-end, and a base that moves."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Home, until
from tests.weaviate import server_binary


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    server_binary()
    with Home(tmp_path_factory.mktemp("store"), EDITOR="true").up() as made:
        yield made


def texts(home: Home) -> list[str]:
    found = home.json("kb", "search", "legs of crabs", "--kb", "animals")
    return [result["entry"]["text"] for result in found["results"]]


def test_a_base_moves_to_weaviate_and_outlives_a_killed_server(home: Home, tmp_path: Path) -> None:
    home.nesycd("kb", "create", "animals")
    home.nesycd("kb", "add", "Crabs have 10 legs.", "--kb", "animals", "--tag", "legs")
    home.nesycd("kb", "add", "Puffins have 2 legs.", "--kb", "animals")
    before, file = texts(home), tmp_path / "animals.jsonl"
    assert before[0] == "Crabs have 10 legs."
    home.nesycd("kb", "export", str(file), "--kb", "animals")

    home.nesycd("up", "--knowledge", "weaviate")
    rows = home.processes()
    assert rows["weaviate"]["ready"] and rows["weaviate"]["address"] == home.address("weaviate")
    home.nesycd("kb", "create", "animals")
    home.nesycd("kb", "import", str(file), "--kb", "animals", "--atomic", "--reviewed")
    assert texts(home) == before
    again = tmp_path / "again.jsonl"
    home.nesycd("kb", "export", str(again), "--kb", "animals")
    kept = [[json.loads(line) for line in path.read_text().splitlines()] for path in (file, again)]
    assert [[(row.get("id"), row["text"]) for row in rows] for rows in kept[:1]] == [
        [(row.get("id"), row["text"]) for row in rows] for rows in kept[1:]
    ]

    home.nesycd("up")
    assert home.processes()["weaviate"]["pid"] == rows["weaviate"]["pid"], (
        "the choice is kept, and nothing started anew"
    )
    next(p for p in home.running() if p.pid == rows["weaviate"]["pid"]).kill()
    until(lambda: home.processes()["weaviate"]["ready"])
    until(lambda: home.nesycd("kb", "search", "crabs", "--kb", "animals", status=None).returncode == 0)
    assert texts(home) == before


def test_the_server_answers_nobody_without_the_key(home: Home) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"http://{home.address('weaviate')}/v1/schema", timeout=5)
    assert error.value.code == 401
    logs = "".join(path.read_text(errors="replace") for path in (home.folder / "logs").glob("*.log"))
    assert (home.folder / "weaviate.key").read_text() not in logs


def test_back_to_the_embedded_store_the_base_is_as_it_was(home: Home) -> None:
    home.nesycd("up", "--knowledge", "embedded")
    assert "weaviate" not in home.processes()
    assert texts(home)[0] == "Crabs have 10 legs."
