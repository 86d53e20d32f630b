"""The generated Python is what the contracts say."""

from __future__ import annotations

import filecmp
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_python_is_what_the_pinned_tools_generate_from_the_contracts(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", "--out", tmp_path], check=True)
    made = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    committed = {
        p.relative_to(ROOT / "protos/python")
        for p in (ROOT / "protos/python/nesycd").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert made == committed, "run `make protos` and commit what it changes"
    differing = [p for p in made if not filecmp.cmp(tmp_path / p, ROOT / "protos/python" / p, shallow=False)]
    assert not differing, f"run `make protos` and commit what it changes: {differing}"
