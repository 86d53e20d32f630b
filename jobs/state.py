"""What is known of runs, in Redis: records, leases, attempts, progress. Celery's messages only say "look here".

Who may do what is decided in Lua, at once: a stage is begun by the one worker that gets the run's lease, so a message that
is delivered twice finds nothing to do; a worker that lost its lease cannot write a result any more.

Keys (``nesycd:runs:*``)::

    run:<id>                     hash    the record
    stage:<id>:<round>:<stage>   hash    one stage's state and progress
    lease:<id>                   string  the token of the worker that has the run; expires
    index                        zset    all runs by time of creation
    active                       set     those that are not over
    request:<request id>         string  the run that a CreateRun made (AIP-155)
    work:<digest>                string  the token of the worker that writes a stage folder; expires
    totals                       hash    what became of all stages so far: see `Totals`
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, ReadOnlyError, TimeoutError
from redis.retry import Retry

PREFIX = "nesycd:runs:"
QUEUED, RUNNING, CANCELLING = "QUEUED", "RUNNING", "CANCELLING"
CANCELLED, SUCCEEDED, FAILED = "CANCELLED", "SUCCEEDED", "FAILED"
TERMINAL = frozenset({CANCELLED, SUCCEEDED, FAILED})
_AT_WORK = (QUEUED, RUNNING, CANCELLING)
_REQUEST_SECONDS = 7 * 24 * 3600


@dataclass
class StageRecord:
    """A stage of a run as it stands.

    Attributes:
        name: For instance "rationalize".
        round: From 1.
        state: One of the run's states.
        done: Rows or steps done.
        total: Of how many; 0: not known.
        unit: "rows" or "steps".
        loss: The latest training loss.
        seconds_left: What it is expected to take still.
        seconds: What it took so far.
        attempts: How often it was begun.
        reused: Another run had made it.
        skipped: It is left out: the rounds before were enough.
        note: What it said last.
        digest: Of its output folder.
        cost_usd: What the teacher cost in it.
        tokens: What the teacher read and wrote in it.
        adapter: The adapter that it made, `adapters/{adapter}@{version}`.
    """

    name: str
    round: int = 1
    state: str = QUEUED
    done: int = 0
    total: int = 0
    unit: str = "rows"
    loss: float | None = None
    seconds_left: float | None = None
    seconds: float = 0.0
    attempts: int = 0
    reused: bool = False
    skipped: bool = False
    note: str = ""
    digest: str = ""
    cost_usd: float = 0.0
    tokens: int = 0
    adapter: str = ""


@dataclass
class RunRecord:
    """A run as it stands. Times are seconds since the epoch; 0 where the time has not come."""

    id: str
    spec: dict[str, Any]
    state: str
    stages: list[StageRecord] = field(default_factory=list)
    stage: str = ""
    round: int = 1
    error: dict[str, str] | None = None
    cost_usd: float = 0.0
    teacher_tokens: int = 0
    create_time: float = 0.0
    start_time: float = 0.0
    end_time: float = 0.0
    queued_at: float = 0.0
    cancel: bool = False
    adapter: str = ""
    knowledge_base: str = ""
    report_uri: str = ""
    accuracy: dict[str, float] = field(default_factory=dict)
    version: int = 0

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in TERMINAL

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass
class Totals:
    """What became of all stages since this Redis began. Counted where it happens, so that it outlives every process.

    Attributes:
        attempts: How many turns of workers at a stage ended so, by (stage, outcome); outcomes are `OUTCOMES`.
        failures: How many runs failed, by (stage, reason).
        seconds: How long the stages took that were done, all their turns together, by stage; without those that another run had made.
        done: How many those are, by stage.
    """

    attempts: dict[tuple[str, str], int] = field(default_factory=dict)
    failures: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)


@dataclass
class AtWork:
    """A run that is not over, as an operator looks at it.

    Attributes:
        run: Its id.
        stage: Where it is.
        state: QUEUED, RUNNING or CANCELLING.
        silent_seconds: Since its worker told anything (a row, a step, a note); None where no worker is at it.
        budget_used: The part of its budget that is spent; None: it has none.
    """

    run: str
    stage: str
    state: str
    silent_seconds: float | None = None
    budget_used: float | None = None


OUTCOMES = ("done", "retry", "handback", "cancelled", "failed", "lost")
"""How a turn at a stage ends; lost: its worker was gone."""

_TOUCH = """
local function touch(run) redis.call('HINCRBY', run, 'version', 1) end
"""
_TOTALS = f"{PREFIX}totals"
# A run's keys and the totals' lie in one Redis (docs: no cluster), so the name need not be among KEYS.
_COUNT = f"""
local TOTALS = '{_TOTALS}'
local function count(what, stage, word) redis.call('HINCRBY', TOTALS, what .. ' ' .. stage .. ' ' .. word, 1) end
"""
_END = """
-- Ends a run in a state, whose worker is gone; its stage is where that left it.
local function over(run, stage, lease, active, id, now, state)
  redis.call('DEL', lease)
  redis.call('HSET', run, 'state', state, 'end_time', now)
  redis.call('HSET', stage, 'state', state)
  redis.call('HDEL', stage, 'begun')
  redis.call('SREM', active, id)
  redis.call('HINCRBY', run, 'version', 1)
end
"""

# KEYS run index active request | ARGV id now request_seconds field value ...
_CREATE = (
    _TOUCH
    + """
local known = redis.call('GET', KEYS[4])
if known then return {'REPEATED', known} end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'EXISTS', ARGV[1]} end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('SET', KEYS[4], ARGV[1], 'EX', ARGV[3])
touch(KEYS[1])
return {'CREATED', ARGV[1]}
"""
)

# KEYS run stage lease active | ARGV id token ttl_ms stage round now most dead
_TAKE = (
    _TOUCH
    + _COUNT
    + _END
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'ABSENT' end
if redis.call('HGET', KEYS[1], 'stage') ~= ARGV[4] or redis.call('HGET', KEYS[1], 'round') ~= ARGV[5] then return 'STALE' end
if state ~= 'QUEUED' and state ~= 'RUNNING' and state ~= 'CANCELLING' then return 'STALE' end
local owner = redis.call('GET', KEYS[3])
if owner == ARGV[2] then return 'TAKEN' end
if owner and owner ~= ARGV[8] then return 'BUSY' end
if state ~= 'QUEUED' then count('attempts', ARGV[4], 'lost') end
if state == 'CANCELLING' then
  over(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[6], 'CANCELLED')
  return 'CANCELLED'
end
local strikes = tonumber(redis.call('HGET', KEYS[2], 'strikes') or '0')
if strikes >= tonumber(ARGV[7]) then
  redis.call('HSET', KEYS[1], 'error', ARGV[9])
  over(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[6], 'FAILED')
  count('failures', ARGV[4], cjson.decode(ARGV[9]).reason)
  return 'EXHAUSTED'
end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
redis.call('HINCRBY', KEYS[2], 'strikes', 1)
redis.call('HINCRBY', KEYS[2], 'attempts', 1)
redis.call('HDEL', KEYS[2], 'stalled')
redis.call('HSET', KEYS[2], 'state', 'RUNNING', 'begun', ARGV[6], 'told', ARGV[6])
redis.call('HSET', KEYS[1], 'owner', ARGV[2])
if state == 'QUEUED' then redis.call('HSET', KEYS[1], 'state', 'RUNNING') end
redis.call('HSETNX', KEYS[1], 'start_time', ARGV[6])
touch(KEYS[1])
return 'TAKEN'
"""
)

_HELD = """
-- Whether a worker has a run. A lease that expired while Redis was away is still its own, unless another has it or had it since:
-- then the run may be at another stage.
local function held(run, lease, token)
  local owner = redis.call('GET', lease)
  if owner then return owner == token end
  if redis.call('HGET', run, 'owner') ~= token then return false end
  local state = redis.call('HGET', run, 'state')
  return state == 'RUNNING' or state == 'CANCELLING'
end
"""

# KEYS run lease | ARGV token ttl_ms
_RENEW = (
    _HELD
    + """
if not held(KEYS[1], KEYS[2], ARGV[1]) then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
"""
)

# KEYS run stage lease | ARGV token field value ...; only by the owner
_PROGRESS = (
    _TOUCH
    + _HELD
    + """
if not held(KEYS[1], KEYS[3], ARGV[1]) then return 0 end
for i = 2, #ARGV, 2 do
  if ARGV[i] == 'saved' then
    if tonumber(ARGV[i + 1]) > tonumber(redis.call('HGET', KEYS[2], 'saved') or '0') then
      redis.call('HSET', KEYS[2], 'saved', ARGV[i + 1], 'strikes', 1)
    end
  elseif ARGV[i + 1] == '' and ARGV[i] ~= 'note' then redis.call('HDEL', KEYS[2], ARGV[i])
  else redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
end
touch(KEYS[1])
return 1
"""
)

# KEYS run stage lease active | ARGV token now stage_state run_state next_stage next_round error outcome id stage; only by the owner
_END_STAGE = (
    _TOUCH
    + _COUNT
    + _HELD
    + """
if not held(KEYS[1], KEYS[3], ARGV[1]) then return 0 end
local begun = tonumber(redis.call('HGET', KEYS[2], 'begun') or ARGV[2])
redis.call('HINCRBYFLOAT', KEYS[2], 'seconds', tostring(tonumber(ARGV[2]) - begun))
redis.call('HDEL', KEYS[2], 'begun')
redis.call('HDEL', KEYS[2], 'seconds_left')
redis.call('HSET', KEYS[2], 'state', ARGV[3])
count('attempts', ARGV[10], string.lower(ARGV[8]))
if ARGV[8] == 'DONE' and redis.call('HGET', KEYS[2], 'reused') ~= '1' then
  count('done', ARGV[10], '')
  redis.call('HINCRBYFLOAT', TOTALS, 'seconds ' .. ARGV[10] .. ' ', redis.call('HGET', KEYS[2], 'seconds'))
end
if ARGV[8] == 'FAILED' and ARGV[7] ~= '' then count('failures', ARGV[10], cjson.decode(ARGV[7]).reason) end
if ARGV[8] == 'HANDBACK' then
  redis.call('HINCRBY', KEYS[2], 'attempts', -1)
  redis.call('HINCRBY', KEYS[2], 'strikes', -1)
end
local state = ARGV[4]
if state == 'QUEUED' and redis.call('HGET', KEYS[1], 'cancel') == '1' then state = 'CANCELLED' end
redis.call('HSET', KEYS[1], 'state', state)
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'stage', ARGV[5], 'round', ARGV[6]) end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[7]) end
if state == 'QUEUED' then redis.call('HSET', KEYS[1], 'queued_at', ARGV[2])
else
  redis.call('HSET', KEYS[1], 'end_time', ARGV[2])
  redis.call('SREM', KEYS[4], ARGV[9])
end
redis.call('DEL', KEYS[3])
touch(KEYS[1])
return 1
"""
)

# KEYS run lease active stage | ARGV id now
_CANCEL = (
    _TOUCH
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'ABSENT' end
if state == 'QUEUED' or (state ~= 'CANCELLED' and state ~= 'SUCCEEDED' and state ~= 'FAILED' and redis.call('EXISTS', KEYS[2]) == 0) then
  redis.call('HSET', KEYS[1], 'state', 'CANCELLED', 'cancel', '1', 'end_time', ARGV[2])
  redis.call('HSET', KEYS[4], 'state', 'CANCELLED')
  redis.call('SREM', KEYS[3], ARGV[1])
elseif state == 'RUNNING' then
  redis.call('HSET', KEYS[1], 'state', 'CANCELLING', 'cancel', '1')
else return state end
touch(KEYS[1])
return 'OK'
"""
)

# KEYS run active stage | ARGV id now call: repeated by the client, the same call is answered as before
_RESUME = (
    _TOUCH
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'ABSENT' end
if redis.call('HGET', KEYS[1], 'resumed') == ARGV[3] then return 'OK' end
if state ~= 'FAILED' and state ~= 'CANCELLED' then return state end
redis.call('HSET', KEYS[1], 'state', 'QUEUED', 'cancel', '0', 'queued_at', ARGV[2], 'resumed', ARGV[3])
redis.call('HDEL', KEYS[1], 'error', 'end_time')
redis.call('HSET', KEYS[3], 'state', 'QUEUED', 'strikes', '0')
redis.call('SADD', KEYS[2], ARGV[1])
touch(KEYS[1])
return 'OK'
"""
)

# KEYS run lease stage active | ARGV id now dead queued_before stage: takes a run from a worker that is gone
_RECLAIM = (
    _TOUCH
    + _COUNT
    + _END
    + """
local state = redis.call('HGET', KEYS[1], 'state')
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[3] then return 'OWNED' end
if state == 'QUEUED' then
  if owner or tonumber(redis.call('HGET', KEYS[1], 'queued_at') or '0') > tonumber(ARGV[4]) then return 'WAITING' end
  redis.call('HSET', KEYS[1], 'queued_at', ARGV[2])
  return 'AGAIN'
end
if state == 'CANCELLING' then
  count('attempts', ARGV[5], 'lost')
  over(KEYS[1], KEYS[3], KEYS[2], KEYS[4], ARGV[1], ARGV[2], 'CANCELLED')
  return 'CANCELLED'
end
if state ~= 'RUNNING' then redis.call('SREM', KEYS[4], ARGV[1]) return 'OVER' end
count('attempts', ARGV[5], 'lost')
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'state', 'QUEUED', 'queued_at', ARGV[2])
redis.call('HSET', KEYS[3], 'state', 'QUEUED')
touch(KEYS[1])
return 'AGAIN'
"""
)

# KEYS work | ARGV token ttl_ms dead
_LOCK = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] and owner ~= ARGV[3] then return owner end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
"""
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def connect(url: str, *, patience: float = 300.0) -> redis.Redis:
    """A client that repeats what fails because the server is away, for about ``patience`` seconds.

    A script may have run though its answer was lost. Run again it changes nothing more; its answer may be another one only where
    a worker's turn ends or a run is taken from a worker that is gone: then the recovery sends what the caller did not.
    """
    cap = 2.0
    retries = max(1, round(patience / cap) + 6)
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=5,
        socket_timeout=30,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=cap, base=0.05), retries),
        retry_on_error=[ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError],
    )


class RunStore:
    """Reads and changes the state of runs.

    Args:
        client: From `connect`.
        lease_seconds: How long a lease lasts without renewal.
        max_attempts: Attempts of a stage without lasting progress before the run is given up.
    """

    def __init__(self, client: redis.Redis, *, lease_seconds: float = 30.0, max_attempts: int = 3) -> None:
        self.client = client
        self.lease_ms = round(lease_seconds * 1000)
        self.max_attempts = max_attempts
        scripts = {
            "create": _CREATE, "take": _TAKE, "renew": _RENEW, "progress": _PROGRESS, "end": _END_STAGE, "cancel": _CANCEL,
            "resume": _RESUME, "reclaim": _RECLAIM, "lock": _LOCK, "unlock": _UNLOCK,
        }  # fmt: skip
        self._scripts = {name: client.register_script(text) for name, text in scripts.items()}

    # --- for those who submit and watch

    def create(
        self, run_id: str, spec: dict[str, Any], plan: Sequence[tuple[str, int]], *, request_id: str = ""
    ) -> tuple[str, str]:
        """Makes the record of a run, queued.

        Args:
            run_id: Its id.
            spec: Its spec, checked.
            plan: Its stages with their rounds, in order.
            request_id: A repeated request with the same id makes no second run. "": one of this call's own, for the client repeats it too.

        Returns:
            "CREATED", "EXISTS" (a run has this id) or "REPEATED" (the request was answered before), and the run's id.
        """
        request_id = request_id or uuid.uuid4().hex
        now = time.time()
        stage, round_ = plan[0]
        fields = {
            "spec": json.dumps(spec, ensure_ascii=False), "plan": json.dumps(list(plan)), "state": QUEUED, "stage": stage,
            "round": round_, "create_time": repr(now), "queued_at": repr(now), "cancel": "0",
        }  # fmt: skip
        keys = [self._run(run_id), f"{PREFIX}index", f"{PREFIX}active", f"{PREFIX}request:{request_id}"]
        flat = [item for pair in fields.items() for item in pair]
        args = [run_id, repr(now), _REQUEST_SECONDS, *flat]
        outcome, known = self._scripts["create"](keys=keys, args=args)
        return outcome, known

    def get(self, run_id: str) -> RunRecord | None:
        """The record of a run, or None."""
        raw = self.client.hgetall(self._run(run_id))
        if not raw:
            return None
        plan = [(stage, int(round_)) for stage, round_ in json.loads(raw["plan"])]
        pipe = self.client.pipeline(transaction=False)
        for stage, round_ in plan:
            pipe.hgetall(self._stage(run_id, stage, round_))
        stages = [_stage_record(*key, fields) for key, fields in zip(plan, pipe.execute(), strict=True)]
        return RunRecord(
            id=run_id,
            spec=json.loads(raw["spec"]),
            state=raw["state"],
            stages=stages,
            stage=raw["stage"],
            round=int(raw["round"]),
            error=json.loads(raw["error"]) if raw.get("error") else None,
            cost_usd=float(raw.get("cost_usd", 0)),
            teacher_tokens=int(raw.get("teacher_tokens", 0)),
            create_time=float(raw["create_time"]),
            start_time=float(raw.get("start_time", 0)),
            end_time=float(raw.get("end_time", 0)),
            queued_at=float(raw.get("queued_at", 0)),
            cancel=raw.get("cancel") == "1",
            adapter=raw.get("adapter", ""),
            knowledge_base=raw.get("knowledge_base", ""),
            report_uri=raw.get("report_uri", ""),
            accuracy=json.loads(raw.get("accuracy", "{}")),
            version=int(raw.get("version", 0)),
        )

    def page(self, limit: int, after: Sequence[Any] | None = None) -> tuple[list[RunRecord], list[Any] | None]:
        """Runs, newest first.

        Args:
            limit: At most so many.
            after: Where the last page ended, as this method gave it.

        Returns:
            The runs, and where the next page begins; None at the end.
        """
        # Runs that were made at the same moment follow each other by id, so a page may end between them.
        found: list[tuple[float, str]] = []
        score, last = (float(after[0]), str(after[1])) if after else (float("inf"), "")
        offset = 0
        while len(found) <= limit:
            batch = self.client.zrevrangebyscore(
                f"{PREFIX}index", score, "-inf", start=offset, num=limit + 1, withscores=True
            )
            found += [(when, run_id) for run_id, when in batch if not after or (when, run_id) < (score, last)]
            offset += len(batch)
            if len(batch) < limit + 1:
                break
        page = found[:limit]
        runs = [run for _, run_id in page if (run := self.get(run_id))]
        return runs, ([repr(page[-1][0]), page[-1][1]] if len(found) > limit else None)

    def version(self, run_id: str) -> int:
        """Grows with every change of a run; 0 where there is none."""
        return int(self.client.hget(self._run(run_id), "version") or 0)

    def cancel(self, run_id: str) -> str:
        """Asks a run to stop. Returns "OK", "ABSENT", or the state of a run that stops or is over."""
        stage = self._current(run_id)
        keys = [self._run(run_id), self._lease(run_id), f"{PREFIX}active", self._stage(run_id, *stage)]
        return self._scripts["cancel"](keys=keys, args=[run_id, repr(time.time())])

    def resume(self, run_id: str) -> str:
        """Queues a run again that failed or was cancelled. Returns "OK", "ABSENT", or the state that forbids it."""
        stage = self._current(run_id)
        keys = [self._run(run_id), f"{PREFIX}active", self._stage(run_id, *stage)]
        return self._scripts["resume"](keys=keys, args=[run_id, repr(time.time()), uuid.uuid4().hex])

    # --- for workers

    def take(self, run_id: str, stage: str, round_: int, token: str, *, dead: str = "") -> str:
        """Takes the lease of a run to do a stage, and counts an attempt.

        Args:
            run_id: The run.
            stage: The stage that the message names.
            round_: Its round.
            token: This worker's.
            dead: A token whose worker is known to be gone.

        Returns:
            "TAKEN"; "BUSY": another worker has it; "STALE": the run is past this stage, or over; "ABSENT": no such run;
            "CANCELLED": it was to stop, and its worker is gone; "EXHAUSTED": it was begun too often, and the run has failed now.
        """
        keys = [self._run(run_id), self._stage(run_id, stage, round_), self._lease(run_id), f"{PREFIX}active"]
        error = {
            "reason": "WORKER_LOST",
            "message": f"the worker was lost {self.max_attempts} times in stage {stage} without getting on; look for what kills it "
            "(memory?), then resume the run",
            "stage": stage,
        }
        if where := self.client.hget(keys[1], "stalled"):
            error["reason"] = "STAGE_STALLED"
            error["message"] = (
                f"stage {stage} was begun {self.max_attempts} times without getting on, and hung at last in {where}; the "
                "worker's log has the stacks of all threads; mend what hangs, then resume the run"
            )
        args = [
            run_id,
            token,
            self.lease_ms,
            stage,
            round_,
            repr(time.time()),
            self.max_attempts,
            dead,
            json.dumps(error),
        ]
        return self._scripts["take"](keys=keys, args=args)

    def renew(self, run_id: str, token: str) -> bool:
        """Keeps the lease. False: another worker has the run now, or it is over."""
        keys = [self._run(run_id), self._lease(run_id)]
        return bool(self._scripts["renew"](keys=keys, args=[token, self.lease_ms]))

    def progress(self, run_id: str, stage: str, round_: int, token: str, fields: dict[str, Any]) -> bool:
        """Writes what a stage did. ``saved``, where it grows, is lasting progress: attempts are counted from there anew."""
        keys = [self._run(run_id), self._stage(run_id, stage, round_), self._lease(run_id)]
        fields = {**fields, "told": repr(time.time())}
        flat = [item for key, value in fields.items() for item in (key, "" if value is None else str(value))]
        return bool(self._scripts["progress"](keys=keys, args=[token, *flat]))

    def annotate(self, run_id: str, **fields: Any) -> None:
        """Writes what is known of the whole run: cost_usd, teacher_tokens, adapter, knowledge_base, report_uri, accuracy."""
        plain: dict[str | bytes, Any] = {
            k: json.dumps(v) if isinstance(v, dict) else repr(v) if isinstance(v, float) else v
            for k, v in fields.items()
        }
        pipe = self.client.pipeline()
        pipe.hset(self._run(run_id), mapping=plain)
        pipe.hincrby(self._run(run_id), "version", 1)
        pipe.execute()

    def once(self, run_id: str, stage: str, round_: int, name: str, value: Any) -> Any:
        """Keeps a JSON value of a stage at the first call, and returns what was kept."""
        key = self._stage(run_id, stage, round_)
        self.client.hsetnx(key, f"once:{name}", json.dumps(value))
        return json.loads(self.client.hget(key, f"once:{name}") or "null")

    def stalled(self, run_id: str, stage: str, round_: int, token: str, where: str) -> None:
        """Keeps where a stage hung whose worker is about to be ended."""
        self.progress(run_id, stage, round_, token, {"stalled": where, "note": f"hung in {where}"})

    def end_stage(
        self, run_id: str, stage: str, round_: int, token: str, outcome: str, *, following: tuple[str, int] | None = None,
        error: dict[str, str] | None = None,
    ) -> bool:  # fmt: skip
        """Ends this worker's turn at a stage, and gives the lease back.

        Args:
            run_id: The run.
            stage: The stage.
            round_: Its round.
            token: This worker's.
            outcome: "DONE" (goes on to ``following``, or the run has succeeded), "HANDBACK" (queued again, the attempt does
                not count), "RETRY" (queued again), "CANCELLED" or "FAILED".
            following: The next stage and its round.
            error: Why it failed.

        Returns:
            False: the lease was lost; nothing was changed.
        """
        stage_state, run_state = {
            "DONE": (SUCCEEDED, QUEUED if following else SUCCEEDED),
            "HANDBACK": (QUEUED, QUEUED),
            "RETRY": (QUEUED, QUEUED),
            "CANCELLED": (CANCELLED, CANCELLED),
            "FAILED": (FAILED, FAILED),
        }[outcome]
        next_stage, next_round = following or ("", "")
        keys = [self._run(run_id), self._stage(run_id, stage, round_), self._lease(run_id), f"{PREFIX}active"]
        args = [token, repr(time.time()), stage_state, run_state, next_stage, next_round,
                json.dumps(error) if error else "", outcome, run_id, stage]  # fmt: skip
        return bool(self._scripts["end"](keys=keys, args=args))

    def strikes(self, run_id: str, stage: str, round_: int) -> int:
        """Attempts of a stage since it got on last, this one included."""
        return int(self.client.hget(self._stage(run_id, stage, round_), "strikes") or 0)

    def cancelled(self, run_id: str) -> bool:
        """Whether somebody asked the run to stop."""
        return self.client.hget(self._run(run_id), "cancel") == "1"

    def owner(self, run_id: str) -> str:
        """The token of the worker that has the run, or ""."""
        return self.client.get(self._lease(run_id)) or ""

    def last_owner(self, run_id: str) -> str:
        """The token of the worker that had the run last, its lease expired or not; or ""."""
        return self.client.hget(self._run(run_id), "owner") or ""

    def lock(self, digest: str, token: str, *, dead: str = "") -> str:
        """Takes (or keeps) the right to write a stage folder. Returns "" or the token of another worker that has it."""
        return self._scripts["lock"](keys=[f"{PREFIX}work:{digest}"], args=[token, self.lease_ms, dead])

    def unlock(self, digest: str, token: str) -> None:
        """Gives that right back."""
        self._scripts["unlock"](keys=[f"{PREFIX}work:{digest}"], args=[token])

    # --- for those who look after runs whose worker is gone

    def active(self) -> list[str]:
        """The runs that are not over."""
        return sorted(self.client.smembers(f"{PREFIX}active"))

    def at_work(self) -> list[AtWork]:
        """The runs that are not over, each with the stage where it is."""
        runs = self.active()
        pipe = self.client.pipeline(transaction=False)
        for run_id in runs:
            pipe.hmget(self._run(run_id), "stage", "round", "state", "spec", "cost_usd")
        # A run can end between the two looks.
        found = [(run_id, *row) for run_id, row in zip(runs, pipe.execute(), strict=True) if row[2] in _AT_WORK]
        for run_id, stage, round_, *_ in found:
            pipe.hget(self._stage(run_id, stage, int(round_)), "told")
        at_work = []
        for (run_id, stage, _, state, spec, cost), told in zip(found, pipe.execute(), strict=True):
            budget = float(json.loads(spec).get("teacher", {}).get("budget_usd") or 0)
            at_work.append(
                AtWork(
                    run_id,
                    stage,
                    state,
                    silent_seconds=max(0.0, time.time() - float(told)) if told and state != QUEUED else None,
                    budget_used=float(cost or 0) / budget if budget else None,
                )
            )
        return at_work

    def totals(self) -> Totals:
        """What became of all stages so far."""
        totals = Totals()
        for key, value in self.client.hgetall(_TOTALS).items():
            what, stage, word = key.split(" ", 2)
            if what == "attempts":
                totals.attempts[stage, word] = int(value)
            elif what == "failures":
                totals.failures[stage, word] = int(value)
            elif what == "done":
                totals.done[stage] = int(value)
            elif what == "seconds":
                totals.seconds[stage] = float(value)
        return totals

    def reclaim(self, run_id: str, *, dead: str, queued_before: float) -> tuple[str, str, int]:
        """Takes a run from a worker that is gone, or finds that its message is.

        Args:
            run_id: The run.
            dead: The token of a worker that is known to be gone; "" where none is.
            queued_before: A run that waits since before this time is to be sent again.

        Returns:
            "AGAIN" (to be sent again), or another word; and the stage and round where the run is.
        """
        stage, round_ = self._current(run_id)
        keys = [self._run(run_id), self._lease(run_id), self._stage(run_id, stage, round_), f"{PREFIX}active"]
        outcome = self._scripts["reclaim"](
            keys=keys, args=[run_id, repr(time.time()), dead, repr(queued_before), stage]
        )
        return outcome, stage, round_

    def _current(self, run_id: str) -> tuple[str, int]:
        stage, round_ = self.client.hmget(self._run(run_id), "stage", "round")
        return stage or "", int(round_ or 1)

    @staticmethod
    def _run(run_id: str) -> str:
        return f"{PREFIX}run:{run_id}"

    @staticmethod
    def _lease(run_id: str) -> str:
        return f"{PREFIX}lease:{run_id}"

    @staticmethod
    def _stage(run_id: str, stage: str, round_: int) -> str:
        return f"{PREFIX}stage:{run_id}:{round_}:{stage}"


def _stage_record(name: str, round_: int, fields: dict[str, str]) -> StageRecord:
    def number(key: str) -> float | None:
        return float(fields[key]) if fields.get(key) else None

    seconds = number("seconds") or 0.0
    if begun := number("begun"):
        seconds += max(0.0, time.time() - begun)
    return StageRecord(
        name=name,
        round=round_,
        state=fields.get("state", QUEUED),
        done=int(fields.get("done", 0)),
        total=int(fields.get("total", 0)),
        unit=fields.get("unit", "rows"),
        loss=number("loss"),
        seconds_left=number("seconds_left"),
        seconds=seconds,
        attempts=int(fields.get("attempts", 0)),
        reused=fields.get("reused") == "1",
        skipped=fields.get("skipped") == "1",
        note=fields.get("note", ""),
        digest=fields.get("digest", ""),
        cost_usd=number("cost_usd") or 0.0,
        tokens=int(number("tokens") or 0),
        adapter=fields.get("adapter", ""),
    )
