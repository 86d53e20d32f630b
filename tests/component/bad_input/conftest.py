from __future__ import annotations

from collections.abc import Iterator

import pytest

from cli.stack import Stack
from tests.command import UP, Home

# Nobody waits long for what a test breaks on purpose.
IMPATIENT = {
    "NESYCD_JOBS_PATIENCE_SECONDS": "2",
    "NESYCD_TEACHER_MAX_ATTEMPTS": "2",
    "NESYCD_TEACHER_BACKOFF_SECONDS": "0.05",
    "NESYCD_TEACHER_MAX_ASKS_AGAIN": "1",
}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Everything that `nesycd up` starts, for all tests of this folder: bad input must not harm what runs."""
    made = Home(tmp_path_factory.mktemp("bad"), **IMPATIENT)
    try:
        made.nesycd(*UP)
        yield made
    finally:
        made.nesycd("down", status=None)


@pytest.fixture(autouse=True)
def _unharmed(home: Home) -> Iterator[None]:
    """Whatever a test puts in, the same processes run afterwards and none had to be started again."""
    stack = Stack(home.folder)
    before = {row["name"]: row["pid"] for row in stack.processes()}
    yield
    assert {row["name"]: row["pid"] for row in stack.processes()} == before
