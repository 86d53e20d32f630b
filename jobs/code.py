"""Which code makes runs and their stages what they are."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

import method

_JOBS, _METHOD = Path(__file__).parent, Path(method.__file__).parent
_TELLING = ("report", "estimate")
"""Folders of `jobs/` that tell of runs and make nothing in them."""


@cache
def code_digest() -> str:
    """Digest of the sources of the method and the jobs: runs of other code were perhaps trained and scored otherwise."""
    files = ((file.relative_to(root.parent), file) for root in (_METHOD, _JOBS) for file in sorted(root.rglob("*.py")))
    return _digest((path.as_posix(), file) for path, file in files if not _tells(path))


@cache
def stage_code_digest(stage: ModuleType) -> str:
    """Digest of the code that decides what a stage makes: the method, the stage itself, and what it names in CODE."""
    files = [Path(inspect.getfile(stage)), *sorted(_METHOD.rglob("*.py"))]
    for name in stage.CODE:
        path = _JOBS / name
        files += sorted(f for f in path.rglob("*") if f.suffix in (".py", ".j2")) if path.is_dir() else [path]
    return _digest((file.name, file) for file in files)


def _tells(path: Path) -> bool:
    return path.parts[0] == "jobs" and path.parts[1] in _TELLING


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
