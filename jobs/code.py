"""Which code makes runs what they are."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import method

_TELLING = ("report", "estimate")
"""Folders of `jobs/` that tell of runs and make nothing in them."""


@cache
def code_digest() -> str:
    """Digest of the sources of the method and the jobs: runs of other code were perhaps trained and scored otherwise."""
    digest = hashlib.sha256()
    for root in (Path(method.__file__).parent, Path(__file__).parent):
        for file in sorted(root.rglob("*.py")):
            path = file.relative_to(root.parent)
            if path.parts[:1] == ("jobs",) and path.parts[1] in _TELLING:
                continue
            digest.update(path.as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
