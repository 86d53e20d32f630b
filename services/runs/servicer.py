"""The gRPC edge of runs: each call reads or changes the state that the workers share."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
import redis.exceptions
from google.protobuf import json_format
from nesycd.runs.v1 import (
    CancelRunRequest,
    CancelRunResponse,
    CompareRunsRequest,
    CompareRunsResponse,
    CreateRunRequest,
    CreateRunResponse,
    EstimateRunRequest,
    EstimateRunResponse,
    GetRunRequest,
    GetRunResponse,
    ListRunsRequest,
    ListRunsResponse,
    ResumeRunRequest,
    ResumeRunResponse,
    Run,
    RunServiceServicer,
    WatchRunRequest,
    WatchRunResponse,
)

from jobs.artifacts import Artifacts
from jobs.estimate import Prices, estimate
from jobs.report.comparison import compare_runs, pages
from jobs.report.outcomes import read_outcome
from jobs.spec import RunSpec, check_run_id, new_run_id, parse, run_exists
from jobs.spec_notes import notes
from jobs.state import CANCELLED, RunRecord, RunStore
from services.common import context as call_context
from services.common.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    register_reason,
)
from services.common.pages import decode_page_token, encode_page_token, is_text, page_size
from services.runs.convert import estimate_message, run_message, struct
from services.runs.limits import check_files

RUN_NOT_FOUND = register_reason(
    "RUN_NOT_FOUND", "There is no run of this name.", "List the runs to see which there are."
)
RUN_NOT_RESUMABLE = register_reason(
    "RUN_NOT_RESUMABLE",
    "Only a run that failed or was cancelled can be taken up again.",
    "Wait for the run to end, or create a new one.",
)
STATE_UNAVAILABLE = register_reason(
    "STATE_UNAVAILABLE",
    "The Redis that holds the state of runs does not answer.",
    "Check NESYCD_RUNS_REDIS_URL and that Redis runs; repeat when it is back. Runs go on from where they are.",
)
RUN_FILES_UNAVAILABLE = register_reason(
    "RUN_FILES_UNAVAILABLE",
    "The runs service cannot read the artifact store, or a data file that a run spec names.",
    "Check NESYCD_RUNS_ARTIFACTS_URL, the credentials and the network; repeat when the store is back.",
)
_LIST = "runs"
_FEWEST, _MOST = 2, 256
"""Runs of one comparison."""
_POLL_SECONDS = 0.3
T = TypeVar("T")


def _is_place(payload: object) -> bool:
    """Whether it is a place in the list of runs as RunStore.page gives it: a time, as text, and a run's id."""
    if not isinstance(payload, list) or len(payload) != 2 or not all(map(is_text, payload)):
        return False
    try:
        return math.isfinite(float(payload[0]))
    except ValueError:
        return False


class RunServicer(RunServiceServicer):
    """See protos/nesycd/runs/v1/runs.proto.

    Args:
        store: The state of runs.
        send: Puts (run, stage, round) into its queue; may fail silently, then the recovery sends later.
        artifacts: The files of runs.
        prices: The teacher's, for estimates.
        watch_seconds: Longest pause between two messages of WatchRun.
    """

    def __init__(
        self, store: RunStore, send: Callable[[str, str, int], None], artifacts: Artifacts, *, prices: Prices | None = None,
        watch_seconds: float = 15.0,
    ) -> None:  # fmt: skip
        self._store, self._send, self._artifacts, self._prices = store, send, artifacts, prices or {}
        self._watch_seconds = watch_seconds
        self._threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="redis")
        # Files are read and figures reckoned here: seconds of work, a few at a time.
        self._readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="files")

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def CreateRun(self, request: CreateRunRequest, context: grpc.aio.ServicerContext) -> CreateRunResponse:
        """Checks a run spec and submits it; a repeated request with the same id is answered like the first."""
        if len(request.request_id) > 128:
            raise InvalidArgument("request_id is longer than 128 characters", field="request_id")
        spec, without_effect = _spec(request)
        run_id = check_run_id(request.run_id) if request.run_id else new_run_id(spec.name, request.request_id)
        if request.validate_only:
            return CreateRunResponse(run=Run(name=f"runs/{run_id}", spec=struct(spec.dump())), notes=without_effect)
        outcome, known = await self._do(
            lambda: self._store.create(run_id, spec.dump(), spec.plan(), request_id=request.request_id)
        )
        if outcome == "EXISTS":
            raise run_exists(run_id)
        record = await self._get(f"runs/{known}")
        if not record.over:  # also where it was made before: whoever made it may not have come to this
            await self._do(lambda: self._send(known, record.stage, record.round))
        return CreateRunResponse(run=run_message(record), notes=without_effect)

    async def GetRun(self, request: GetRunRequest, context: grpc.aio.ServicerContext) -> GetRunResponse:
        """One run."""
        return GetRunResponse(run=run_message(await self._get(request.name)))

    async def ListRuns(self, request: ListRunsRequest, context: grpc.aio.ServicerContext) -> ListRunsResponse:
        """All runs, newest first."""
        size = page_size(request.page_size)
        after = decode_page_token(_LIST, request.page_token, _is_place)
        runs, following = await self._do(lambda: self._store.page(size, after))
        token = encode_page_token(_LIST, following) if following else ""
        return ListRunsResponse(runs=[run_message(run) for run in runs], next_page_token=token)

    async def WatchRun(
        self, request: WatchRunRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[WatchRunResponse]:
        """A run as it goes on, until it ends."""
        run_id = _id_of(request.name)
        while True:
            # The version first: what changes while the record is read gives another message.
            version = await self._do(lambda: self._store.version(run_id))
            record = await self._get(request.name)
            yield WatchRunResponse(run=run_message(record))
            if record.over:
                return
            waited = 0.0
            while waited < self._watch_seconds:
                if call_context.stopping():
                    raise Unavailable("the server stops; watch again", reason="SERVER_STOPPING", retry_after=1.0)
                await asyncio.sleep(_POLL_SECONDS)
                waited += _POLL_SECONDS
                if await self._do(lambda: self._store.version(run_id)) != version:
                    break

    async def CancelRun(self, request: CancelRunRequest, context: grpc.aio.ServicerContext) -> CancelRunResponse:
        """Asks a run to stop."""
        run_id = _id_of(request.name)
        await self._get(request.name)
        # A run that is over stays as it is: cancelling twice is no error.
        await self._do(lambda: self._store.cancel(run_id))
        record = await self._get(request.name)
        if record.state == CANCELLED:  # no worker was at it: one is to have the student forget its adapters
            await self._do(lambda: self._send(run_id, record.stage, record.round))
        return CancelRunResponse(run=run_message(record))

    async def ResumeRun(self, request: ResumeRunRequest, context: grpc.aio.ServicerContext) -> ResumeRunResponse:
        """Takes up a run again that failed or was cancelled."""
        run_id = _id_of(request.name)
        await self._get(request.name)
        outcome = await self._do(lambda: self._store.resume(run_id))
        record = await self._get(request.name)
        if outcome != "OK":
            raise FailedPrecondition(
                f"{request.name} is {outcome}: only a run that failed or was cancelled is resumed",
                reason=RUN_NOT_RESUMABLE,
                subject=request.name,
            )
        await self._do(lambda: self._send(run_id, record.stage, record.round))
        return ResumeRunResponse(run=run_message(record))

    async def EstimateRun(self, request: EstimateRunRequest, context: grpc.aio.ServicerContext) -> EstimateRunResponse:
        """What a run would take, without running it."""
        spec, without_effect = _spec(request)

        def reckon() -> EstimateRunResponse:
            check_files(spec)
            return estimate_message(estimate(spec, self._artifacts, self._prices), without_effect)

        return await self._read(reckon)

    async def CompareRuns(self, request: CompareRunsRequest, context: grpc.aio.ServicerContext) -> CompareRunsResponse:
        """Finished runs over the same test rows, side by side."""
        names = list(request.names)
        if not _FEWEST <= len(names) <= _MOST:
            raise InvalidArgument(f"names has {len(names)} runs; {_FEWEST} to {_MOST} are compared", field="names")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidArgument(f"names has {twice[:80]!r} twice", field="names")
        if request.baseline and request.baseline not in names:
            raise InvalidArgument(f"baseline {request.baseline[:80]!r} must be one of names", field="baseline")
        records = [await self._get(name) for name in names]

        def compare() -> CompareRunsResponse:
            outcomes = [read_outcome(record, self._artifacts) for record in records]
            figures = compare_runs(outcomes, request.baseline or names[0])
            html, markdown = pages(figures)
            return CompareRunsResponse(html=html, markdown=markdown, figures=struct(figures))

        return await self._read(compare)

    async def _get(self, name: str) -> RunRecord:
        run_id = _id_of(name)
        record = await self._do(lambda: self._store.get(run_id))
        if record is None:
            raise NotFound(f"there is no run {name!r}", reason=RUN_NOT_FOUND, resource_type="run", resource_name=name)
        return record

    async def _do(self, work: Callable[[], T]) -> T:
        """Redis is asked in threads: a connection that hangs holds up nobody else."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (redis.exceptions.RedisError, OSError) as error:  # also one that cannot write: its disk is full
            raise Unavailable(
                f"the state of runs cannot be reached ({type(error).__name__}); repeat later",
                reason=STATE_UNAVAILABLE,
                retry_after=2.0,
            ) from None

    async def _read(self, work: Callable[[], T]) -> T:
        """Work with files, in threads of its own."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)
        except OSError as error:
            raise Unavailable(
                f"a file cannot be read ({type(error).__name__}); repeat later",
                reason=RUN_FILES_UNAVAILABLE,
                retry_after=2.0,
            ) from None


def _spec(request: CreateRunRequest | EstimateRunRequest) -> tuple[RunSpec, list[str]]:
    """The spec of a request, checked, and what of it has no effect."""
    if not request.HasField("spec"):
        raise InvalidArgument("spec is missing; docs/run-spec.md tells what it holds", field="spec")
    try:
        given = json_format.MessageToDict(request.spec)
    except (json_format.SerializeToJsonError, ValueError):
        raise InvalidArgument("spec holds a number that is not finite", field="spec") from None
    return parse(given), notes(given)


def _id_of(name: str) -> str:
    match = re.fullmatch(r"runs/([A-Za-z0-9-]{1,50})", name)
    if match is None:
        raise InvalidArgument(f"name {name[:80]!r} must look like runs/RUN", field="name")
    return match[1]
