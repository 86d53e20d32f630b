"""Digests of sets of files, the same wherever they are computed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def digest_files(files: Mapping[str, str]) -> str:
    """One digest for a set of files.

    It is the SHA-256 of the lines `<sha256 of the file> <name>\\n`, sorted by name, so it
    depends on the names and the contents only. A base model's digest is that of its
    `*.safetensors` and its `config.json`.

    Args:
        files: SHA-256 in lower-case hexadecimal digits of each file, by its name.

    Returns:
        64 lower-case hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{files[name]} {name}\n".encode())
    return digest.hexdigest()
