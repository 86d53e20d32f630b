"""Records of runs as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from google.protobuf import json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from nesycd.runs.v1 import EstimateRunResponse, Run, RunError, RunState, Stage, StageEstimate

from jobs.estimate import Estimate
from jobs.state import RunRecord, StageRecord


def run_message(record: RunRecord) -> Run:
    """A run as the contract has it."""
    run = Run(
        name=f"runs/{record.id}",
        spec=struct(record.spec),
        state=_state(record.state),
        stages=[_stage(stage) for stage in record.stages],
        cost_usd=record.cost_usd,
        teacher_tokens=record.teacher_tokens,
        adapter=record.adapter,
        knowledge_base=record.knowledge_base,
        report_uri=record.report_uri,
        accuracy=record.accuracy,
    )
    if record.error:
        run.error.CopyFrom(RunError(**record.error))
    for name in ("create_time", "start_time", "end_time"):
        if seconds := getattr(record, name):
            getattr(run, name).CopyFrom(_timestamp(seconds))
    return run


def estimate_message(made: Estimate, notes: Sequence[str]) -> EstimateRunResponse:
    """An estimate as the contract has it, with these notes before its own."""
    return EstimateRunResponse(
        spec=struct(made.spec), stages=[StageEstimate(**asdict(stage)) for stage in made.stages],
        parameters=made.parameters, trainable_parameters=made.trainable_parameters,
        training_memory_bytes=made.training_memory_bytes, serving_memory_bytes=made.serving_memory_bytes,
        cost_usd=sum(stage.cost_usd for stage in made.stages), notes=[*notes, *made.notes],
    )  # fmt: skip


def struct(value: Mapping[str, Any]) -> struct_pb2.Struct:
    """JSON values as a message."""
    return json_format.ParseDict(dict(value), struct_pb2.Struct())


def _stage(stage: StageRecord) -> Stage:
    message = Stage(
        name=stage.name, round=stage.round, state=_state(stage.state), done=stage.done, total=stage.total, unit=stage.unit,
        seconds=stage.seconds, attempts=stage.attempts, reused=stage.reused, note=stage.note,
    )  # fmt: skip
    if stage.loss is not None:
        message.loss = stage.loss
    if stage.seconds_left is not None:
        message.seconds_left = stage.seconds_left
    return message


def _state(state: str) -> RunState:
    return cast(RunState, RunState.Value(f"RUN_STATE_{state}"))


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1_000_000))
    return stamp
