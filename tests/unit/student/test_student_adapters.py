"""Names and defaults of adapters, and what two students make of a registry that they share, without a model."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest

from method.digests import digest_files
from services.common.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.common.server import StartError
from services.student.adapters import Adapters, AdapterStore, merge, parse_adapter
from services.student.models import base_digest, locate
from services.student.registry import Alias, Registry, Retrieval

DIGEST = "d" * 64


def publish(artifacts: Path, name: str, weights: bytes = b"weights") -> Path:
    adapter, version = parse_adapter(name)
    folder = artifacts / "adapters" / adapter / version
    folder.mkdir(parents=True, exist_ok=True)
    files = {"adapter_model.safetensors": weights, "adapter_config.json": b"{}"}
    for file, content in files.items():
        (folder / file).write_bytes(content)
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    (folder / "manifest.json").write_text(json.dumps({"base_digest": DIGEST, "files": sums}))
    return folder


class Prepared:
    """Weights that no engine knows."""

    def __init__(self, name: str, _: object, tensors: bytes) -> None:
        self.name, self.tensors = name, tensors


def adapters(folder: Path, released: list[Any] | None = None) -> Adapters:
    """A student of the registry in `folder`."""
    store = AdapterStore((folder / "artifacts").as_uri(), DIGEST)
    release = None if released is None else released.append
    return Adapters(store, Prepared, Registry((folder / "registry").as_uri()), release)


async def started(folder: Path, released: list[Any] | None = None) -> Adapters:
    made = adapters(folder, released)
    await made.restore(folder / "state.json")
    return made


@pytest.mark.parametrize(
    "name",
    ["", "a@1", "adapters/", "adapters/a", "adapters/a@", "adapters/@1", "adapters/..@1", "adapters/a@..", "adapters/a/b@1",
     "adapters/a@1/x", "adapters/a@1\n", "adapters/a@1@2", "adapters/ä@1", "adapters/" + "a" * 101 + "@1"],
)  # fmt: skip
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_adapter(name)


async def test_state_is_found_again_and_a_version_that_is_gone_does_not_hinder(tmp_path: Path) -> None:
    publish(tmp_path / "artifacts", "adapters/a@1")
    gone = publish(tmp_path / "artifacts", "adapters/b@1")
    first = await started(tmp_path)
    for name in ("adapters/a@1", "adapters/b@1"):
        await first.load(name)
        await first.set_alias(Alias(f"aliases/{name[9]}", name, Retrieval("knowledgeBases/k", top_k=5, gate=0.9)))
    (gone / "manifest.json").rename(gone / "away.json")
    second = await started(tmp_path)
    assert second.loaded() == first.loaded()[:1]
    assert second.aliases() == first.aliases()
    assert (await second.resolve("aliases/a")).retrieval == Retrieval("knowledgeBases/k", top_k=5, gate=0.9)
    with pytest.raises(FailedPrecondition, match="adapters/b@1 is not loaded"):
        await second.resolve("aliases/b")
    (gone / "away.json").rename(gone / "manifest.json")
    await second.load("adapters/b@1")
    assert (await second.resolve("aliases/b")).name == "adapters/b@1"


async def test_a_damaged_state_is_reported_and_kept(tmp_path: Path) -> None:
    state = tmp_path / "registry" / "7" / "state.json"
    state.parent.mkdir(parents=True)
    for content in ("{", "[]", '{"adapters": [{"x": 1}], "aliases": []}'):
        state.write_text(content)
        with pytest.raises(StartError, match=r"registry/7/state\.json"):
            await started(tmp_path)
        assert state.read_text() == content
    state.unlink()
    with pytest.raises(StartError, match=r"registry/7/state\.json"):
        await started(tmp_path)


async def test_a_state_that_is_damaged_while_students_serve_changes_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "artifacts", "adapters/a@1")
    kept = await started(tmp_path)
    await kept.load("adapters/a@1")
    (tmp_path / "registry" / "1" / "state.json").write_text("{")
    following = asyncio.create_task(kept.follow(0.01))
    await asyncio.sleep(0.1)
    assert not following.done()
    following.cancel()
    assert (await kept.resolve("adapters/a@1")).weights, "what is known is served on"
    with pytest.raises(DataLoss, match="stop all students"):
        await kept.set_alias(Alias("aliases/a", "adapters/a@1"))


async def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "artifacts", "adapters/a@1")
    kept = await started(tmp_path)
    (tmp_path / "registry").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="NESYCD_STUDENT_REGISTRY_URL"):
        await kept.load("adapters/a@1")
    assert kept.loaded() == []


async def test_without_an_artifact_store_there_is_only_the_base_model(tmp_path: Path) -> None:
    alone = Adapters(AdapterStore("", DIGEST), Prepared, Registry(""))
    await alone.restore(tmp_path / "state.json")
    assert (await alone.resolve("")).name == "base"
    with pytest.raises(FailedPrecondition, match="NESYCD_STUDENT_ARTIFACTS_URL"):
        await alone.load("adapters/a@1")


# --- two students


async def test_what_one_student_loads_and_names_the_other_serves(tmp_path: Path) -> None:
    for version in ("adapters/a@1", "adapters/a@2"):
        publish(tmp_path / "artifacts", version)
    one, other = await started(tmp_path), await started(tmp_path)
    info = await one.load("adapters/a@1")
    assert (await other.resolve("adapters/a@1")).weights, "a name that it does not know it looks up at once"
    await one.set_alias(Alias("aliases/production", "adapters/a@1", Retrieval("knowledgeBases/k")))
    assert (await other.resolve("aliases/production")).retrieval == Retrieval("knowledgeBases/k")
    await other.load("adapters/a@2")
    await other.set_alias(Alias("aliases/production", "adapters/a@2"))
    assert (await one.resolve("")).name == "adapters/a@1", "what it knows it need not ask for"
    await one.refresh()
    assert (await one.resolve("")).name == "adapters/a@2"
    assert one.loaded() == other.loaded() and one.loaded()[0] == info
    assert one.aliases() == other.aliases()
    with pytest.raises(FailedPrecondition, match="aliases/production stands for it"):
        await one.unload("adapters/a@2")


async def test_what_one_student_unloads_the_other_lets_go_of(tmp_path: Path) -> None:
    publish(tmp_path / "artifacts", "adapters/a@1")
    released: list[Any] = []
    one, other = await started(tmp_path), await started(tmp_path, released)
    await one.load("adapters/a@1")
    held = (await other.resolve("adapters/a@1")).weights
    await one.unload("adapters/a@1")
    await other.refresh()
    assert released == [held] and other.loaded() == []
    with pytest.raises(FailedPrecondition, match="is not loaded"):
        await other.resolve("adapters/a@1")
    with pytest.raises(NotFound):
        await other.unload("adapters/a@1")


async def test_a_version_that_was_published_anew_is_loaded_anew_by_all(tmp_path: Path) -> None:
    publish(tmp_path / "artifacts", "adapters/a@1", b"old")
    one, other = await started(tmp_path), await started(tmp_path)
    await one.load("adapters/a@1")
    await other.refresh()
    await one.unload("adapters/a@1")
    publish(tmp_path / "artifacts", "adapters/a@1", b"new")
    await one.load("adapters/a@1")
    await other.refresh()
    assert (await other.resolve("adapters/a@1")).weights.tensors == b"new"  # type: ignore[union-attr]
    # Other bytes in the place of those that were loaded are no version of it.
    publish(tmp_path / "artifacts", "adapters/a@1", b"other")
    assert (await started(tmp_path)).loaded() == []


async def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    names = [f"adapters/a@{number}" for number in range(12)]
    for name in names:
        publish(tmp_path / "artifacts", name)
    students = [await started(tmp_path) for _ in range(4)]

    async def change(student: Adapters, name: str) -> None:
        await student.load(name)
        await student.set_alias(Alias(f"aliases/{name[11:]}", name))

    # Each by two students: more changes than states are kept.
    await asyncio.gather(*(change(students[(i + j) % 4], name) for i, name in enumerate(names) for j in (0, 1)))
    for student in (*students, await started(tmp_path)):
        await student.refresh()
        assert {info.name for info in student.loaded()} == set(names)
        assert {alias.adapter for alias in student.aliases()} == set(names)


async def test_an_alias_never_stands_for_what_another_student_unloaded(tmp_path: Path) -> None:
    publish(tmp_path / "artifacts", "adapters/a@1")
    one, other = await started(tmp_path), await started(tmp_path)
    for _ in range(20):
        await one.load("adapters/a@1")
        await other.refresh()
        ends = await asyncio.gather(
            other.set_alias(Alias("aliases/a", "adapters/a@1")), one.unload("adapters/a@1"), return_exceptions=True
        )
        assert sum(isinstance(end, FailedPrecondition) for end in ends) == 1, ends
        await other.refresh()
        for alias in other.aliases():
            assert (await other.resolve(alias.name)).weights
            await other.set_alias(Alias(alias.name, ""))


async def test_a_version_that_cannot_be_loaded_now_is_loaded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish(tmp_path / "artifacts", "adapters/a@1")
    one = await started(tmp_path)
    await one.load("adapters/a@1")
    monkeypatch.setattr("services.student.adapters._SOON_SECONDS", 0.05)
    monkeypatch.setattr("services.student.adapters._LATER_SECONDS", 0.05)
    shutil.move(folder, tmp_path / "away")
    other = await started(tmp_path)
    assert other.loaded() == []
    shutil.move(tmp_path / "away", folder)
    await asyncio.sleep(0.1)
    await other.refresh()
    assert (await other.resolve("adapters/a@1")).weights
    assert other.loaded() == one.loaded()


async def test_a_student_is_ready_once_it_has_what_is_registered_though_the_store_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "artifacts", "adapters/a@1")
    await (await started(tmp_path)).load("adapters/a@1")
    monkeypatch.setattr("services.student.adapters._SOON_SECONDS", 0.05)
    tries: list[str] = []

    class Away:
        def __init__(self, name: str, *_: object) -> None:
            tries.append(name)
            if len(tries) < 4:
                raise Unavailable("the server that writes is away")

    store = AdapterStore((tmp_path / "artifacts").as_uri(), DIGEST)
    other = Adapters(store, Away, Registry((tmp_path / "registry").as_uri()))  # type: ignore[arg-type]
    await other.restore(tmp_path / "state.json")
    assert len(tries) == 4 and len(other.loaded()) == 1


# --- the registry


async def test_the_state_of_an_earlier_version_is_taken_up_once(tmp_path: Path) -> None:
    publish(tmp_path / "artifacts", "adapters/a@1")
    old = {
        "adapters": [{"name": "adapters/a@1", "base_model": "b", "run": "runs/r", "sha256": "", "load_time": "2026-01-01T00:00:00+00:00"}],
        "aliases": [{"name": "aliases/a", "adapter": "adapters/a@1", "retrieval": {"knowledge_base": "knowledgeBases/k", "top_k": 3}}],
    }  # fmt: skip
    old["adapters"][0]["sha256"] = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "state.json").write_text(json.dumps(old))
    one = await started(tmp_path)
    assert [info.load_time for info in one.loaded()] == ["2026-01-01T00:00:00+00:00"]
    assert (await one.resolve("aliases/a")).retrieval == Retrieval("knowledgeBases/k", 3)
    await one.set_alias(Alias("aliases/a", ""))
    await one.unload("adapters/a@1")
    assert (await started(tmp_path)).loaded() == [], "it is not taken up again"


async def test_a_damaged_state_of_an_earlier_version_is_reported_and_kept(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(StartError, match=r"state\.json cannot be read"):
        await started(tmp_path)
    assert (tmp_path / "state.json").read_text() == "{" and not (tmp_path / "registry").exists()


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_of_two_changes_of_one_state_the_second_is_refused(tmp_path: Path, kind: str) -> None:
    url = tmp_path.as_uri() if kind == "file" else f"memory://{tmp_path.name}-registry"
    one, other = Registry(url), Registry(url)
    before = one.newest()
    assert one.replace(before, before)
    assert not other.replace(before, before)
    assert other.newest().number == 1
    for _ in range(120):
        assert other.replace(other.newest(), other.newest())
    files, root = fsspec.url_to_fs(url)
    numbers = sorted(int(path.rstrip("/").rsplit("/", 1)[-1]) for path in files.ls(root, detail=False))
    assert numbers == list(range(72, 122)), "old states are removed, and nothing else lies there"
    # Numbers that were removed are free, and yet no way back.
    assert not one.replace(before, before) and one.newest().number == 121


def test_what_a_killed_student_left_of_a_change_goes_with_a_later_one(tmp_path: Path) -> None:
    left, written_now = tmp_path / ".new-left", tmp_path / ".new-now"
    left.mkdir()
    written_now.mkdir()
    os.utime(left, (0, 0))
    registry = Registry(tmp_path.as_uri())
    assert registry.replace(registry.newest(), registry.newest())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-now", "1"]


@pytest.mark.parametrize("refused", ["rm", "ls"])
def test_a_change_is_made_though_cleaning_up_after_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, refused: str
) -> None:
    registry = Registry(f"memory://{tmp_path.name}-registry")
    state = registry.newest()
    for _ in range(50):
        assert registry.replace(state, state)
        state = registry.newest()
    assert "old states stay" not in capsys.readouterr().err

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "not here")

    files, _ = fsspec.url_to_fs(registry.url)
    monkeypatch.setattr(type(files), refused, refuses)
    assert registry.replace(state, state)
    assert "old states stay" in capsys.readouterr().err
    monkeypatch.undo()
    assert registry.newest().number == 51
    assert registry.replace(registry.newest(), state), "the next change removes what stayed"
    assert len(files.ls(f"/{tmp_path.name}-registry", detail=False)) == 50


def test_a_store_that_replaces_what_exists_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    registry = Registry(f"memory://{tmp_path.name}-careless")
    registry.replace(registry.newest(), registry.newest())
    registry.check()
    assert "conditional writes" not in capsys.readouterr().err
    files, _ = fsspec.url_to_fs(registry.url)
    careless = files.pipe_file
    monkeypatch.setattr(type(files), "pipe_file", lambda _, path, content, **__: careless(path, content))
    registry.check()
    assert "conditional writes" in capsys.readouterr().err


async def test_aliases_stand_for_loaded_versions_only(tmp_path: Path) -> None:
    kept = await started(tmp_path)
    with pytest.raises(FailedPrecondition):
        await kept.set_alias(Alias("aliases/x", "adapters/a@1"))
    with pytest.raises(NotFound):
        await kept.set_alias(Alias("aliases/x", ""))
    with pytest.raises(InvalidArgument):
        await kept.set_alias(Alias("aliases/../x", "adapters/a@1"))


def test_what_a_request_says_wins_over_what_its_alias_says() -> None:
    default = Retrieval("knowledgeBases/k", top_k=5, filter="tags:x")
    assert merge(None, default) == default
    assert merge(Retrieval(top_k=2), default) == Retrieval("knowledgeBases/k", top_k=2, filter="tags:x")
    assert merge(Retrieval("knowledgeBases/other"), default) == Retrieval("knowledgeBases/other")
    gated = Retrieval("knowledgeBases/k", gate=0.9)
    assert merge(Retrieval(top_k=2), gated) == Retrieval("knowledgeBases/k", top_k=2, gate=0.9)
    assert merge(Retrieval(gate=0.5), gated) == Retrieval("knowledgeBases/k", gate=0.5)
    assert merge(Retrieval("knowledgeBases/k"), gated) == Retrieval("knowledgeBases/k")
    assert merge(Retrieval(disabled=True), default) is None
    assert merge(Retrieval(top_k=2), None) is None
    assert merge(None, None) is None


def test_the_base_digest_depends_on_weights_and_config_only(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = base_digest(tmp_path)
    (tmp_path / "README.md").write_text("new")
    assert base_digest(tmp_path) == before
    sums = {n: hashlib.sha256((tmp_path / n).read_bytes()).hexdigest() for n in ("model.safetensors", "config.json")}
    assert before == digest_files(sums)
    (tmp_path / "config.json").write_text("{ }")
    assert base_digest(tmp_path) != before


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"'tiny'.*not a transformers folder"):
        locate("tiny", None, tmp_path.as_uri(), tmp_path)
    with pytest.raises(StartError, match="BASE_MODEL_DIR"):
        locate("tiny", None, "", tmp_path)


def test_a_model_of_a_remote_store_is_copied_once(tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/store/models/tiny/config.json", b"{}")
    store.pipe("/store/models/tiny/model.safetensors", b"weights")
    folder = locate("tiny", None, "memory://store", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    store.rm("/store", recursive=True)
    assert locate("tiny", None, "memory://store", tmp_path) == folder
    assert sorted(p.name for p in folder.parent.iterdir()) == ["tiny"]
