"""Submits a small run over gRPC, and waits for its end: what `helm test` does inside a cluster.

    python -m examples.clients.submit_and_wait --runs 127.0.0.1:50065 --data examples/families

It takes 4 training and 2 test rows; with a paid teacher give a budget (`--budget-usd`), for which the teacher's price must be known. TLS and token come from NESYCD_PEER_TLS_CA, NESYCD_PEER_TLS_CERT,
NESYCD_PEER_TLS_KEY and NESYCD_PEER_TOKEN, as for the services.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

import grpc
from google.protobuf import json_format, struct_pb2
from nesycd.runs.v1 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    CreateRunRequest,
    Run,
    RunServiceStub,
    RunState,
    WatchRunRequest,
)

from services.common.channel import connect
from services.common.settings import ServerSettings

OVER = (RUN_STATE_SUCCEEDED, RUN_STATE_FAILED, RUN_STATE_CANCELLED)


def spec(data: str, base_model: str, *, budget_usd: float = 0) -> dict[str, Any]:
    """A run of a minute or two: a few rows, every stage.

    Args:
        data: The folder of `train.jsonl` and `test.jsonl`, as the worker sees it.
        base_model: The student's base model.
        budget_usd: Most that the teacher may cost; 0: no budget.
    """
    return {
        "name": "cluster-test",
        "data": {
            "train": [{"path": f"{data}/train.jsonl", "limit": 4}],
            "test": [{"path": f"{data}/test.jsonl", "limit": 2}],
        },
        "student": {"base_model": base_model},
        "teacher": {"budget_usd": budget_usd},
        "evaluate": {"conditions": ["general", "augmented"], "max_new_tokens": 48},
        "publish": {"alias": ""},
    }


async def submit_and_wait(address: str, wanted: dict[str, Any], seconds: float) -> Run:
    """Submits a run and watches it; a service that is away for a while is waited for.

    Args:
        address: The runs service.
        wanted: The run spec.
        seconds: Longest wait, until the end of the run.

    Returns:
        The run at its end.

    Raises:
        TimeoutError: It did not end in time.
        grpc.aio.AioRpcError: The service refused it.
    """
    until = time.monotonic() + seconds
    request_id = f"test-{time.time_ns()}"
    async with connect(address, wait_for_ready=True, **ServerSettings().peer_options()) as channel:
        stub = RunServiceStub(channel)
        request = CreateRunRequest(spec=json_format.ParseDict(wanted, struct_pb2.Struct()), request_id=request_id)
        run = await _repeated(lambda left: stub.CreateRun(request, timeout=min(left, 30)), until)
        name = run.run.name
        print(f"submitted {name}", flush=True)
        shown = ""

        async def watch(left: float) -> Run:
            nonlocal shown
            last = run.run
            async for response in stub.WatchRun(WatchRunRequest(name=name), timeout=left):
                last = response.run
                stage = next((s for s in last.stages if s.state not in OVER), None)
                line = RunState.Name(last.state) + (f" {stage.name}" if stage else "")
                if line != shown:
                    print(line, flush=True)
                    shown = line
            return last

        while True:
            last = await _repeated(watch, until)
            if last.state in OVER:
                return last
            await asyncio.sleep(1)  # the stream ended before the run


async def _repeated(call: Any, until: float) -> Any:
    """A call, again while the service is away and there is time left."""
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the run did not end in time")
        try:
            return await call(left)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
            print(f"waits: {error.details()}", flush=True)
            await asyncio.sleep(1)


def main() -> int:
    """The command line; 0 where the run ended well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", default="127.0.0.1:50065", metavar="HOST:PORT", help="the runs service")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="of the example data, as the worker sees it")
    parser.add_argument("--base-model", default="smollm2-135m-instruct", help="the student's base model")
    parser.add_argument("--seconds", type=float, default=1500, help="longest wait")
    parser.add_argument(
        "--budget-usd", type=float, default=0, help="most that the teacher may cost (default: no budget)"
    )
    options = parser.parse_args()
    try:
        wanted = spec(options.data, options.base_model, budget_usd=options.budget_usd)
        run = asyncio.run(submit_and_wait(options.runs, wanted, options.seconds))
    except (TimeoutError, grpc.aio.AioRpcError) as error:
        print(f"failed: {error.details() if isinstance(error, grpc.aio.AioRpcError) else error}", file=sys.stderr)
        return 1
    for stage in run.stages:
        print(f"{stage.name}: {RunState.Name(stage.state)} in {stage.seconds:.1f} s, begun {stage.attempts} times")
    if run.state != RUN_STATE_SUCCEEDED:
        print(f"failed: {run.error.reason} in {run.error.stage}: {run.error.message}", file=sys.stderr)
        return 1
    print(f"{run.name} ended well: {run.adapter}, {run.knowledge_base}, {dict(run.accuracy)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
