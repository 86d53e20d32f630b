"""Files are whole or absent; a stage folder is complete when its manifest is there, and not before."""

from __future__ import annotations

import hashlib
import shutil
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


@pytest.fixture
def remote(tmp_path: Path) -> Artifacts:
    return Artifacts(f"memory://{tmp_path.name}", tmp_path / "scratch")


def test_a_copy_of_a_model_that_was_replaced_by_one_of_the_same_size_is_renewed(remote: Artifacts) -> None:
    remote.write(b"old!", "models", "m", "w.safetensors")
    remote.write(b"shard", "models", "m", "more.safetensors")
    assert (remote.local("models", "m") / "w.safetensors").read_bytes() == b"old!"
    remote.write(b"new!", "models", "m", "w.safetensors")
    remote.remove("models", "m", "more.safetensors")
    again = Artifacts(remote.url, remote.scratch())  # of the next turn
    assert (again.local("models", "m") / "w.safetensors").read_bytes() == b"new!"
    assert not (again.local("models", "m") / "more.safetensors").exists()


def test_a_copy_of_what_did_not_change_is_not_fetched_again(remote: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.write(b"weights", "models", "m", "w.safetensors")
    remote.local("models", "m")
    monkeypatch.setattr(remote.fs, "get_file", None)
    assert (remote.local("models", "m") / "w.safetensors").read_bytes() == b"weights"


def test_what_a_killed_worker_left_of_a_model_half_fetched_is_removed_unless_another_one_may_be_at_it(
    remote: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [remote.scratch() / "models" / name for name in ("m/w.safetensors.1.tmp", "other/deep/w.safetensors.2.tmp")]
    for partial in left:
        partial.parent.mkdir(parents=True)
        partial.write_bytes(b"half")
    for model in ("m", "n"):
        remote.write(b"weights", "models", model, "w.safetensors")
    get_file = remote.fs.get_file
    seen: list[str] = []

    def fetch(name: str, partial: str) -> None:
        seen.append(name[-15:])
        get_file(name, partial)
        if len(seen) == 1:  # another worker of this machine, while this one fetches
            Artifacts(remote.url, remote.scratch()).local("models", "n")
            assert Path(partial).exists()

    monkeypatch.setattr(remote.fs, "get_file", fetch)
    assert (remote.local("models", "m") / "w.safetensors").read_bytes() == b"weights"
    assert seen == ["m/w.safetensors", "n/w.safetensors"] and not any(partial.exists() for partial in left)


def test_copies_of_a_turn_are_freed_and_base_models_stay(remote: Artifacts) -> None:
    remote.write(b"w", "models", "m", "w.safetensors")
    for stage in ("train-general", "train-augmented"):
        StageFolder(remote, stage, "d").write("adapter/a", b"a")
    model = remote.local("models", "m")
    copies = [StageFolder(remote, stage, "d").local("adapter") for stage in ("train-general", "train-augmented")]
    remote.free()
    assert not any(copy.exists() for copy in copies)
    assert (model / "w.safetensors").exists()
    assert StageFolder(remote, "train-general", "d").read("adapter/a") == b"a"


def test_freeing_copies_of_a_local_store_removes_nothing(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path / "store"), tmp_path / "scratch")
    folder = StageFolder(artifacts, "train", "d")
    folder.write("adapter/a", b"a")
    folder.local("adapter")
    artifacts.free()
    assert folder.read("adapter/a") == b"a"


def test_checkpoints_in_a_bucket_are_those_that_are_kept_each_written_once_and_removed_manifest_first(
    remote: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StageFolder(remote, "train", "d")
    local = folder.local("work/checkpoints")
    told: list[str] = []
    write, remove = remote.write, remote.remove
    monkeypatch.setattr(
        remote, "write", lambda content, *parts: (told.append(f"+{'/'.join(parts[5:])}"), write(content, *parts))
    )
    monkeypatch.setattr(remote, "remove", lambda *parts: (told.append(f"-{'/'.join(parts[5:])}"), remove(*parts)))
    (local / ".checkpoint-0.part").mkdir(parents=True)
    (local / ".checkpoint-0.part" / "manifest.json").write_text("{}")  # not in its place yet
    for step in (20, 40, 60):
        (local / f"checkpoint-{step}").mkdir()
        (local / f"checkpoint-{step}" / "weights").write_bytes(b"w")
        (local / f"checkpoint-{step}" / "manifest.json").write_text(f'{{"step": {step}}}')
        if step == 60:
            shutil.rmtree(local / "checkpoint-20")
        folder.mirror(local, "work/checkpoints")
    written = [f"+checkpoint-{step}/{name}" for step in (20, 40, 60) for name in ("weights", "manifest.json")]
    assert told == [*written, "-checkpoint-20/manifest.json", "-checkpoint-20"]
    assert remote.names("stages", "train", "d", "work", "checkpoints") == ["checkpoint-40", "checkpoint-60"]

    (local / "checkpoint-60" / "manifest.json").write_text('{"step": 60, "again": true}')  # of other rows
    folder.mirror(local, "work/checkpoints")
    assert told[-2:] == ["+checkpoint-60/weights", "+checkpoint-60/manifest.json"]


def test_digests_do_not_depend_on_the_order_of_fields() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1}) != digest_of({"a": 1, "b": [3]})
