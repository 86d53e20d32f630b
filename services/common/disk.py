"""What is written must still be there after the power fails."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: str | Path) -> None:
    """Returns when the names in a folder are on the disk: what was made, renamed or removed there, not the files' content.

    Raises:
        OSError: It cannot be opened, or the disk fails.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
