"""What all students of a base model serve: which adapters are loaded, and which aliases stand for them.

It lies in the artifact store, where every replica finds it, as `<registry>/<number>/state.json`. Numbers only grow, the
highest one counts, and what was written is never changed: a change is made by creating the next number, which fails where
another student was faster. So no two changes are lost, no lock is needed, and a process that is killed at any moment leaves
the state before or after its change.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import fsspec

from services.common import logs
from services.common.disk import sync_folder
from services.common.errors import DataLoss, FailedPrecondition, NesycdError, Unavailable
from services.student import reasons

KEPT = 50
"""States that stay, the newest among them; older ones are removed."""
_FILE = "state.json"
_log = logs.get_logger("student.registry")


@dataclass(frozen=True)
class Retrieval:
    """What to read before answering; see the contract's message of that name."""

    knowledge_base: str = ""
    top_k: int = 0
    mode: int = 0
    exclude_sole_source_case: str = ""
    filter: str = ""
    minimum_score: float = 0.0
    disabled: bool = False
    gate: float = 0.0


@dataclass(frozen=True)
class AdapterInfo:
    """A version that is, or should be, loaded.

    Attributes:
        name: `adapters/{id}@{version}`.
        base_model: What it was trained on.
        run: The run that made it.
        sha256: Of its weights.
        load_time: When it was first loaded, ISO 8601.
    """

    name: str
    base_model: str
    run: str
    sha256: str
    load_time: str


@dataclass(frozen=True)
class Alias:
    """A name that stands for a version, with what is read by default under it."""

    name: str
    adapter: str
    retrieval: Retrieval | None = None


@dataclass(frozen=True)
class State:
    """What is served.

    Attributes:
        number: Which state it is; 0: nothing was ever loaded.
        adapters: The versions, by name.
        aliases: The aliases, by name.
    """

    number: int = 0
    adapters: Mapping[str, AdapterInfo] = field(default_factory=dict)
    aliases: Mapping[str, Alias] = field(default_factory=dict)


class Registry:
    """Reads and replaces the state. Its methods wait for the store: call them in a thread."""

    def __init__(self, url: str) -> None:
        """Opens nothing yet.

        Args:
            url: Its folder, any fsspec URL; empty: there is none, so nothing can be loaded.
        """
        self.url = url.rstrip("/")

    def newest(self) -> State:
        """The state that counts.

        Raises:
            DataLoss: It cannot be understood.
            Unavailable: The store cannot be read.
        """
        number, content = self._newest()
        return _parse(content, number, self._place(number)) if number else State()

    def replace(self, before: State, after: State) -> bool:
        """Makes `after` the state that counts; False where `before` is none any more: read the newest, and try again.

        Raises:
            FailedPrecondition: There is no store.
            Unavailable: The store cannot be written.
        """
        if not self.url:
            raise FailedPrecondition(
                "the student has no artifact store: set NESYCD_STUDENT_ARTIFACTS_URL", subject="artifacts_url"
            )
        number = before.number + 1
        content = {
            "adapters": [asdict(after.adapters[name]) for name in sorted(after.adapters)],
            "aliases": [asdict(after.aliases[name]) for name in sorted(after.aliases)],
        }
        with self._errors("written"):
            if not self._create(number, json.dumps(content, indent=1).encode()):
                return False
        return self._tidy(number)

    def take_up(self, file: Path) -> None:
        """Makes the state that a student of an earlier version kept for itself the first one, where there is none yet.

        Args:
            file: Its `state.json`; it stays as it is.

        Raises:
            DataLoss, Unavailable: As for `newest` and `replace`.
        """
        if not self.url or not file.exists() or self._newest()[0]:
            return
        try:
            content = file.read_bytes()
        except OSError as error:
            raise _damaged(str(file), error) from error
        if self.replace(State(), _parse(content, 0, str(file))):
            _log.info("adapters and aliases of an earlier version taken up", file=str(file), registry=self.url)

    def check(self) -> None:
        """Warns of a store that does not keep to "create, but do not replace", which few servers with S3's API do not know."""
        number, content = self._newest()
        try:
            with self._errors("written"):
                replaced = bool(number) and self._create(number, content)
        except NesycdError as error:
            _log.warning("nothing can be loaded here", detail=error.message)
            return
        if replaced:
            _log.error(
                "the artifact store replaces files that exist: of changes that two students make at the same time, one may be "
                "lost; let one student serve, or set NESYCD_STUDENT_REGISTRY_URL to a store with conditional writes",
                registry=self.url,
            )

    # --- the store --------------------------------------------------------------------------------

    def _place(self, number: int) -> str:
        return f"{self.url}/{number}/{_FILE}"

    def _open(self) -> tuple[Any, str]:
        files, root = fsspec.url_to_fs(self.url)
        return files, root.rstrip("/")

    def _numbers(self) -> list[int]:
        files, root = self._open()
        files.invalidate_cache()  # other students write, too
        try:
            found = files.ls(root, detail=False)
        except FileNotFoundError:
            return []
        names = [path.rstrip("/").rsplit("/", 1)[-1] for path in found]
        return [int(name) for name in names if name.isascii() and name.isdigit()]

    def _newest(self) -> tuple[int, bytes]:
        """The highest number, with its content."""
        if not self.url:
            return 0, b""
        with self._errors("read"):
            number = max(self._numbers(), default=0)
            files, root = self._open()
            try:
                return number, files.cat_file(f"{root}/{number}/{_FILE}") if number else b""
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise _damaged(self._place(number), error) from error

    def _create(self, number: int, content: bytes) -> bool:
        """Writes a number as a whole, or not at all where it exists."""
        files, root = self._open()
        if "file" in files.protocol:
            return _create_folder(Path(root) / str(number), content)
        try:
            files.pipe_file(f"{root}/{number}/{_FILE}", content, mode="create")
        except FileExistsError:
            return False
        return True

    def _tidy(self, number: int) -> bool:
        """Removes old states after a change; False where the change does not count. The change is made: what fails is told
        in the log only, and tried again with the next one."""
        counts = True
        try:
            files, root = self._open()
            numbers = self._numbers()
            # So slow that others had come far enough to remove this number: it was free, and does not count.
            counts = max(numbers, default=number) - number < KEPT
            for old in sorted(each for each in numbers if number - each >= KEPT) if counts else [number]:
                self._remove(files, f"{root}/{old}")
        except Exception as error:  # each store's library has errors of its own
            _log.warning("old states stay", registry=self.url, **logs.describe_exception(error))
        return counts

    @staticmethod
    def _remove(files: Any, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # another student was faster
            files.rm(path, recursive=True)

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Whatever a store's library raises (each has errors of its own), as one of ours."""
        try:
            yield
        except NesycdError:
            raise
        except Exception as error:
            raise Unavailable(
                f"the list of loaded adapters cannot be {done} at {self.url} ({type(error).__name__}): check the store, and "
                "that the student may read and write there (NESYCD_STUDENT_REGISTRY_URL names another place)",
                reason=reasons.ARTIFACTS_UNAVAILABLE,
                retry_after=5.0,
            ) from error


def _create_folder(folder: Path, content: bytes) -> bool:
    """A folder with the state, on the disk when this returns. A folder is never renamed onto one that holds something: that
    is the one way to create and not replace which file systems of networks know, too."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".new-*"):  # by a student that was killed while it wrote, which takes no minute
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 60:
                shutil.rmtree(left, ignore_errors=True)
    aside = folder.with_name(f".new-{uuid.uuid4().hex}")
    aside.mkdir()
    try:
        with (aside / _FILE).open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        sync_folder(aside)
        os.rename(aside, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sync_folder(folder.parent)
    return True


def _parse(content: bytes, number: int, place: str) -> State:
    try:
        state = json.loads(content)
        adapters = [AdapterInfo(**_known(AdapterInfo, entry)) for entry in state["adapters"]]
        aliases = [
            Alias(
                entry["name"],
                entry["adapter"],
                Retrieval(**_known(Retrieval, entry["retrieval"])) if entry["retrieval"] else None,
            )
            for entry in state["aliases"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(place, error) from error
    return State(number, {info.name: info for info in adapters}, {alias.name: alias for alias in aliases})


def _known(kind: type[Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Without the fields of later versions, whose students may serve at the same time during an upgrade."""
    return {each.name: entry[each.name] for each in fields(kind) if each.name in entry}


def _damaged(place: str, error: Exception) -> DataLoss:
    return DataLoss(
        f"{place} cannot be read ({type(error).__name__}): restore it; or stop all students and remove it, to start with the "
        "state before it, or without loaded adapters and aliases",
        reason=reasons.REGISTRY_DAMAGED,
    )
