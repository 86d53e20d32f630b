"""Records of runs as messages."""

from __future__ import annotations

from typing import cast

from google.protobuf import json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from nesycd.runs.v1 import Run, RunError, RunState, Stage

from jobs.state import RunRecord, StageRecord


def run_message(record: RunRecord) -> Run:
    """A run as the contract has it."""
    run = Run(
        name=f"runs/{record.id}",
        spec=json_format.ParseDict(record.spec, struct_pb2.Struct()),
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
