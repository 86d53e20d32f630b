from __future__ import annotations

from pathlib import Path

import pytest

from services.student.engines.transformers import TransformersEngine
from tests.unit.student.files import make_student


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student's folder."""
    return make_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="session")
def engine(student: Path) -> TransformersEngine:
    """The engine with the tiny student, in float32."""
    return TransformersEngine(student, dtype="float32", threads=1, device="cpu")
