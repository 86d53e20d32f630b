"""docs/errors.md tells every reason that an error can have."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """docs/make_errors.py."""
    spec = importlib.util.spec_from_file_location("make_errors", ROOT / "docs" / "make_errors.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_catalogue_gives_and_making_it_imports_no_torch() -> None:
    # In a process of its own: other tests register reasons of theirs, and import torch.
    code = (
        "import sys; sys.path.insert(0, 'docs'); import make_errors; text = make_errors.page(); "
        "assert 'torch' not in sys.modules, 'torch was imported'; sys.stdout.buffer.write(text.encode())"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert made.returncode == 0, made.stderr.decode()
    committed = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert committed == made.stdout.decode(), "run `python docs/make_errors.py` and commit docs/errors.md"


def test_every_reason_in_the_source_is_in_the_catalogue(maker: ModuleType) -> None:
    known = {reason for reasons in maker.register_all().values() for reason in reasons}
    for path in maker.sources():
        for reason in re.findall(r"""\breason=["']([A-Z][A-Z0-9_]+)["']""", path.read_text(encoding="utf-8")):
            assert reason in known, f"{path.relative_to(ROOT)} raises {reason}: register_reason it"


def test_every_reason_has_a_status_code_or_ends_a_run(maker: ModuleType) -> None:
    codes = maker.status_codes()
    ends_runs = {"WORKER_LOST", "STAGE_STALLED", "STAGE_FAILED"}
    for group, reasons in maker.register_all().items():
        for reason in set(reasons) - ends_runs:
            if not reason.startswith("KB_IS_"):  # another test's own
                assert reason in codes, f"nothing raises {reason} of {group}"
