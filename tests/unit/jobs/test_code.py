"""The digest of the code that makes runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import code


def test_the_digest_is_that_of_what_makes_runs_and_not_of_what_tells_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name for name in ("method/scoring.py", "jobs/training/loop.py", "jobs/report/facts.py")]
    for file in (tmp_path / "method/__init__.py", tmp_path / "jobs/code.py", *files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    monkeypatch.setattr(code, "_METHOD", tmp_path / "method")
    monkeypatch.setattr(code, "_JOBS", tmp_path / "jobs")
    seen = [code.code_digest.__wrapped__()]
    for file in files:
        file.write_text("2")
        seen.append(code.code_digest.__wrapped__())
    assert len(set(seen[:3])) == 3 and seen[3] == seen[2]
