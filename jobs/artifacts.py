"""The artifact store: files through fsspec, written so that a reader sees a whole file or none.

Stage folders are content-addressed: ``stages/<stage>/<digest>/``, where the digest covers the stage, its code, the part of
the spec that it reads and the digests of its inputs. ``manifest.json`` is written last: a folder that has it is complete,
and any run with the same inputs uses it. Until then ``work/`` beneath it holds what a killed stage goes on from.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import fsspec

from jobs.spec import canonical
from services.common.disk import sync_folder

MANIFEST = "manifest.json"


class Artifacts:
    """An artifact store.

    Args:
        url: Any fsspec URL of a folder; a plain path is a local folder.
        scratch: Local folder for files of a remote store while they are worked on; None: a temporary one.
    """

    def __init__(self, url: str, scratch: Path | None = None) -> None:
        self.url = url
        self.fs, self.root = fsspec.core.url_to_fs(url)
        protocols = (self.fs.protocol,) if isinstance(self.fs.protocol, str) else tuple(self.fs.protocol)
        self.is_local = "file" in protocols
        if self.is_local:
            self.root = os.path.abspath(self.root)
        self._scratch = scratch
        self.turn = "turn"
        """Folder in the scratch for all copies but those of base models: they are of one turn at a stage, see `free`."""
        # An object store lists from a cache; other workers write too.
        self.fs.use_listings_cache = False

    def path(self, *parts: str) -> str:
        """The store's own path of a file or folder."""
        return "/".join([self.root.rstrip("/"), *parts])

    def uri(self, *parts: str) -> str:
        """A full URL, for people and for other processes."""
        return self.fs.unstrip_protocol(self.path(*parts))

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder."""
        self.fs.invalidate_cache()
        return self.fs.exists(self.path(*parts))

    def read(self, *parts: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: There is none.
        """
        return self.fs.cat_file(self.path(*parts))

    def read_json(self, *parts: str) -> Any:
        """The JSON value of a file, or None where there is no such file."""
        try:
            return json.loads(self.read(*parts))
        except FileNotFoundError:
            return None

    def write(self, content: bytes, *parts: str) -> None:
        """Writes a file: whole or not at all, and on the disk when this returns."""
        target = self.path(*parts)
        if not self.is_local:
            self.fs.pipe_file(target, content)  # an object appears when it is complete
            return
        folder = os.path.dirname(target)
        os.makedirs(folder, exist_ok=True)
        temporary = f"{target}.{uuid.uuid4().hex[:12]}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
        sync_folder(folder)

    def names(self, *parts: str) -> list[str]:
        """The names in a folder, sorted; none where there is no such folder."""
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.path(*parts), detail=False)
        except FileNotFoundError:
            return []
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found if not name.endswith(".tmp"))

    def remove(self, *parts: str) -> None:
        """Removes a file or folder, if there is one."""
        if self.exists(*parts):
            self.fs.rm(self.path(*parts), recursive=True)

    def local(self, *parts: str) -> Path:
        """A local copy of a folder (or the folder itself, where the store is local). A copy of a base model is kept for later."""
        if self.is_local:
            return Path(self.path(*parts))
        is_model, source = parts[0] == "models", self.path(*parts)
        root = self.scratch() if is_model else self.scratch() / self.turn
        target, checksums = root / "/".join(parts), root / "checksums" / "/".join(parts)
        self.fs.invalidate_cache()
        names = {name[len(source) :].lstrip("/"): name for name in self.fs.find(source)}
        with self._fetching_model() if is_model else nullcontext():
            for relative, name in names.items():
                # Sizes say nothing: other weights of the same model have the same one.
                file, known, checksum = target / relative, checksums / relative, str(self.fs.checksum(name))
                if file.exists() and known.exists() and known.read_text() == checksum:
                    continue
                for folder in (file.parent, known.parent):
                    folder.mkdir(parents=True, exist_ok=True)
                known.unlink(missing_ok=True)
                partial = target / f"{relative}.{uuid.uuid4().hex[:12]}.tmp"
                self.fs.get_file(name, str(partial))
                partial.replace(file)
                known.write_text(checksum)
        if is_model:  # of one that was replaced, a file that the store has no more would be read with the rest
            for file in target.rglob("*"):
                if file.is_file() and file.suffix != ".tmp" and file.relative_to(target).as_posix() not in names:
                    file.unlink(missing_ok=True)
        return target

    @contextmanager
    def _fetching_model(self) -> Iterator[None]:
        """For the time in which files of a model are fetched: what killed workers left half-fetched is removed first.

        Workers on one machine may share the scratch. Each has a lock while it fetches, which the system takes from one that dies.
        """
        with (self.scratch() / "models.lock").open("w") as lock:
            with suppress(BlockingIOError):  # another one fetches: what is half-fetched may be its own
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for partial in (self.scratch() / "models").rglob("*.tmp"):
                    partial.unlink()
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def free(self, turn: str = "") -> None:
        """Removes the local copies of this turn, or of another one's folder, where the store is remote."""
        if not self.is_local:
            shutil.rmtree(self.scratch() / (turn or self.turn), ignore_errors=True)

    def leftovers(self) -> list[str]:
        """The names of the folders in ``turns/`` of other turns that have copies here; whether these go on is not known here."""
        if self.is_local:
            return []
        return sorted(path.name for path in self.scratch().glob("turns/*") if path != self.scratch() / self.turn)

    def publish(self, folder: Path, *parts: str, last: str = MANIFEST) -> None:
        """Copies a local folder into the store, the file that makes it complete last. Nothing to do where it is the same."""
        if self.is_local and folder.resolve() == Path(self.path(*parts)).resolve():
            return
        files = sorted((f for f in folder.rglob("*") if f.is_file()), key=lambda f: (f.name == last, str(f)))
        for file in files:
            self.write(file.read_bytes(), *parts, file.relative_to(folder).as_posix())

    def scratch(self) -> Path:
        """The local folder for files that are worked on."""
        if self._scratch is None:
            self._scratch = Path(tempfile.gettempdir()) / f"nesycd-{os.getuid()}-{digest_of(self.url)[:16]}"
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._scratch


class StageFolder:
    """The output of a stage.

    Attributes:
        stage: The stage's name.
        digest: What its output depends on, as one digest.

    Args:
        artifacts: The store.
        stage: See above.
        digest: See above.
        before_write: Is called before each change; raises where this worker may not write here any more.
    """

    def __init__(
        self, artifacts: Artifacts, stage: str, digest: str, before_write: Callable[[], None] = lambda: None
    ) -> None:
        self.artifacts, self.stage, self.digest = artifacts, stage, digest
        self._before_write = before_write
        self._parts = ("stages", stage, digest)

    @property
    def uri(self) -> str:
        """Its URL."""
        return self.artifacts.uri(*self._parts)

    def manifest(self) -> dict[str, Any] | None:
        """What it used, made and cost; None while it is not complete."""
        return self.artifacts.read_json(*self._parts, MANIFEST)

    def complete(self, manifest: dict[str, Any]) -> None:
        """Marks it as complete, with the SHA-256 of each of its files; then removes the work folder."""
        files = {name: hashlib.sha256(self.read(name)).hexdigest() for name in self.files()}
        self._before_write()
        content = {"stage": self.stage, "digest": self.digest, "files": files, **manifest}
        self.artifacts.write(json.dumps(content, indent=2, ensure_ascii=False).encode(), *self._parts, MANIFEST)
        self.artifacts.remove(*self._parts, "work")

    def files(self) -> list[str]:
        """Its files, by path, without those of the work folder and the manifest."""
        root = self.artifacts.path(*self._parts)
        found = (name[len(root) :].lstrip("/") for name in self.artifacts.fs.find(root))
        return sorted(n for n in found if n != MANIFEST and not n.startswith("work/") and not n.endswith(".tmp"))

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return self.artifacts.read(*self._parts, *name.split("/"))

    def has(self, name: str) -> bool:
        """Whether it has a file (complete or not)."""
        return self.artifacts.exists(*self._parts, *name.split("/"))

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, whole or not at all."""
        self._before_write()
        self.artifacts.write(content, *self._parts, *name.split("/"))

    def read_jsonl(self, name: str) -> list[dict[str, Any]]:
        """The objects of a JSONL file."""
        return read_jsonl(self.read(name))

    def remove(self, name: str) -> None:
        """Removes a file or folder, if there is one."""
        self._before_write()
        self.artifacts.remove(*self._parts, *name.split("/"))

    def write_jsonl(self, name: str, records: Iterable[dict[str, Any]]) -> None:
        """Writes a JSONL file."""
        self.write(name, write_jsonl(records))

    def local(self, name: str = "") -> Path:
        """A local path of a folder in it, with what is there."""
        return self.artifacts.local(*self._parts, *([name] if name else []))

    def push(self, folder: Path, name: str) -> None:
        """Brings a local folder back that `local` gave."""
        self._before_write()
        self.artifacts.publish(folder, *self._parts, *name.split("/"))

    def mirror(self, folder: Path, name: str) -> None:
        """Makes a folder of folders the same as a local one that `local` gave, where the store is remote.

        Those that are there already are not written again. Of one that is gone here the manifest is removed first, so that no
        half of it passes for the whole.
        """
        if self.artifacts.is_local:
            return
        here = {file.parent.name: file.parent for file in folder.glob(f"[!.]*/{MANIFEST}")}
        for one, path in here.items():
            if self.artifacts.read_json(*self._parts, *name.split("/"), one, MANIFEST) != json.loads(
                (path / MANIFEST).read_bytes()
            ):
                self.push(path, f"{name}/{one}")
        for one in self.artifacts.names(*self._parts, *name.split("/")):
            if one not in here:
                self.remove(f"{name}/{one}/{MANIFEST}")
                self.remove(f"{name}/{one}")

    def journal(self, name: str, size: int = 32) -> Journal:
        """A journal of rows in the work folder."""
        return Journal(self, f"work/{name}", size)


class Journal:
    """Rows in numbered shards, each written as a whole: what is there after a kill is right, and only the rest is done again.

    Args:
        folder: The stage.
        name: The journal's folder in it.
        size: Rows of a shard.
    """

    def __init__(self, folder: StageFolder, name: str, size: int) -> None:
        self._folder, self._name, self.size = folder, name, size

    def shards(self, count: int) -> Iterator[tuple[int, range]]:
        """Number and row indices of each shard of ``count`` rows."""
        for number, start in enumerate(range(0, count, self.size)):
            yield number, range(start, min(start + self.size, count))

    def get(self, number: int) -> list[dict[str, Any]] | None:
        """A shard's rows, or None where it is still to be made."""
        try:
            return self._folder.read_jsonl(self._file(number))
        except FileNotFoundError:
            return None

    def put(self, number: int, records: Iterable[dict[str, Any]]) -> None:
        """Writes a shard."""
        self._folder.write_jsonl(self._file(number), records)

    def all(self, count: int) -> list[dict[str, Any]]:
        """The rows of all shards, in order; all must be there."""
        records: list[dict[str, Any]] = []
        for number, _ in self.shards(count):
            records += self._folder.read_jsonl(self._file(number))
        return records

    def clear(self) -> None:
        """Forgets all rows: they are done again."""
        self._folder.remove(self._name)

    def _file(self, number: int) -> str:
        return f"{self._name}/shard-{number:06d}.jsonl"


def read_jsonl(content: bytes) -> list[dict[str, Any]]:
    """The objects of JSONL bytes."""
    return [json.loads(line) for line in content.decode("utf-8").split("\n") if line.strip()]


def write_jsonl(records: Iterable[dict[str, Any]]) -> bytes:
    """JSONL bytes of objects."""
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode("utf-8")


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value's canonical text."""
    return hashlib.sha256(canonical(value).encode("utf-8")).hexdigest()
