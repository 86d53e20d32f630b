"""Files are whole or absent; a stage folder is complete when its manifest is there, and not before."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from jobs.artifacts import Artifacts, StageFolder, digest_of


@pytest.fixture(params=["file", "memory"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "file":
        return Artifacts(f"file://{tmp_path}/store")
    return Artifacts(f"memory://{tmp_path.name}", tmp_path / "scratch")


def test_what_is_written_is_read_back(artifacts: Artifacts) -> None:
    assert not artifacts.exists("a", "b.json")
    assert artifacts.read_json("a", "b.json") is None
    artifacts.write(b'{"x": 1}', "a", "b.json")
    artifacts.write(b'{"x": 2}', "a", "b.json")
    assert artifacts.read_json("a", "b.json") == {"x": 2}
    assert artifacts.names("a") == ["b.json"]
    assert artifacts.names("nothing") == []


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = Artifacts(str(tmp_path))
    artifacts.write(b"old", "a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jobs.artifacts.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        artifacts.write(b"new", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert artifacts.read("a") == b"old"


def test_a_stage_is_complete_with_its_manifest_and_then_its_work_folder_is_gone(artifacts: Artifacts) -> None:
    folder = StageFolder(artifacts, "prepare", "d1")
    folder.write_jsonl("rows.jsonl", [{"id": "é"}])
    folder.journal("rows").put(0, [{"id": 1}])
    assert folder.manifest() is None
    folder.complete({"run": "r"})
    manifest = folder.manifest()
    assert manifest is not None
    assert manifest["files"] == {"rows.jsonl": hashlib.sha256(folder.read("rows.jsonl")).hexdigest()}
    assert not folder.has("work")
    assert folder.read_jsonl("rows.jsonl") == [{"id": "é"}]


def test_a_journal_knows_which_shards_are_there(artifacts: Artifacts) -> None:
    journal = StageFolder(artifacts, "rationalize", "d2").journal("rows", 2)
    shards = list(journal.shards(5))
    assert [(number, list(indices)) for number, indices in shards] == [(0, [0, 1]), (1, [2, 3]), (2, [4])]
    journal.put(2, [{"i": 4}])
    journal.put(0, [{"i": 0}, {"i": 1}])
    assert journal.get(1) is None
    journal.put(1, [{"i": 2}, {"i": 3}])
    assert [record["i"] for record in journal.all(5)] == [0, 1, 2, 3, 4]


def test_a_local_copy_has_what_is_there_and_is_brought_back(artifacts: Artifacts) -> None:
    folder = StageFolder(artifacts, "train", "d3")
    folder.write("adapter/a.txt", b"a")
    local = folder.local("adapter")
    assert (local / "a.txt").read_bytes() == b"a"
    (local / "b.txt").write_bytes(b"b")
    folder.push(local, "adapter")
    assert folder.files() == ["adapter/a.txt", "adapter/b.txt"]


def test_digests_do_not_depend_on_the_order_of_fields() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1}) != digest_of({"a": 1, "b": [3]})
