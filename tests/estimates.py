"""Estimates of the demo's run, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jobs.artifacts import Artifacts
from jobs.estimate import Estimate, StageEstimate, estimate
from jobs.spec import parse

FAMILIES = Path(__file__).resolve().parents[1] / "examples" / "families"


def reckoned(store: Artifacts, prices: dict[str, tuple[float, float]] | None = None, **fields: Any) -> Estimate:
    spec = yaml.safe_load((FAMILIES / "demo.yaml").read_text())
    spec["data"] = {"train": str(FAMILIES / "train.jsonl"), "test": str(FAMILIES / "test.jsonl"), "expert": "x.jsonl"}
    spec["training"].pop("recipe", None)
    spec["evaluate"].pop("conditions", None)
    for name, value in fields.items():
        spec[name] = {**spec.get(name, {}), **value} if isinstance(value, dict) else value
    return estimate(parse(spec), store, prices or {})


def stage(made: Estimate, name: str, round_: int = 1) -> StageEstimate:
    return next(s for s in made.stages if (s.name, s.round) == (name, round_))
