"""What a stage's digest is made of."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import jobs
from method.methods.base import STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_that_decides_what_a_stage_makes_is_where_the_stage_says(stage: str) -> None:
    named = import_module(f"jobs.stages.{stage.replace('-', '_')}").CODE
    missing = [name for name in named if not (Path(jobs.__file__).parent / name).exists()]
    assert not missing, f"jobs/stages/{stage.replace('-', '_')}.py: CODE names {missing}"
