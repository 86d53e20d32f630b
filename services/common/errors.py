"""Exceptions that the cores raise, and the one place that turns them into gRPC statuses and back.

A status carries google.rpc details (AIP-193, https://google.aip.dev/193): ErrorInfo with reason and metadata always,
RequestInfo where a call runs, and BadRequest, ResourceInfo, QuotaFailure, PreconditionFailure or RetryInfo where they fit.
Messages must not hold prompts, questions or secrets: they reach the caller and may reach a log.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common import context

DOMAIN = "nesycd"
"""ErrorInfo.domain of every error of ours."""

M = TypeVar("M", bound=Message)

MAX_ATTACHED_BYTES = 1500
"""What an attached message may have, so that it fits beside all other details."""

_MAX_MESSAGE_BYTES = 800
_MAX_STATUS_BYTES = 3000
"""Clients refuse trailers above 8 KiB by default; base64 adds a third, and the message travels twice."""


@dataclass(frozen=True)
class Reason:
    """What docs/errors.md says about one reason.

    Attributes:
        meaning: What went wrong, in one sentence.
        remedy: What the caller or the operator does about it, in one sentence.
    """

    meaning: str
    remedy: str


REASONS: dict[str, Reason] = {}
"""Every reason that can come back, by name; services add theirs with `register_reason`."""


def register_reason(reason: str, meaning: str, remedy: str) -> str:
    """Adds a reason to the catalogue and returns its name, so that it can be kept in a constant.

    Args:
        reason: UPPER_SNAKE name, unique over all services.
        meaning: What went wrong, in one sentence.
        remedy: What to do about it, in one sentence.

    Raises:
        ValueError: The name is not UPPER_SNAKE, or stands for something else already.
    """
    if not reason.replace("_", "").isalnum() or reason != reason.upper() or not reason[0].isalpha():
        raise ValueError(f"reason {reason!r} is not UPPER_SNAKE")
    entry = Reason(meaning, remedy)
    if REASONS.setdefault(reason, entry) != entry:
        raise ValueError(f"reason {reason} is registered already, with another meaning")
    return reason


class NesycdError(Exception):
    """Base of all errors with a status.

    Attributes:
        code: The gRPC status code.
        reason: UPPER_SNAKE name that programs look at; see `REASONS`.
        message: One sentence for people: what was wrong, where, what to do.
        metadata: Further facts as strings (ErrorInfo.metadata); no prompts, no secrets.
        retry_after: Seconds after which a new attempt makes sense, or None.
        attached: Messages of our own contracts that tell more; see `attach` and `find`.
    """

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata: dict[str, str] = {str(k): str(v) for k, v in (metadata or {}).items()}
        self.retry_after = retry_after
        self.attached: list[AnyProto] = []

    def attach(self, message: Message) -> Self:
        """Adds a message that travels with the status where it fits; one of more than `MAX_ATTACHED_BYTES` may not."""
        packed = AnyProto()
        packed.Pack(message)
        self.attached.append(packed)
        return self

    def find(self, kind: type[M]) -> M | None:
        """The attached message of a kind, or None."""
        for packed in self.attached:
            message = kind()
            if packed.Unpack(message):
                return message
        return None

    def details(self) -> list[Message]:
        """The google.rpc details that only this class of error has."""
        return []


class InvalidArgument(NesycdError):
    """The request is wrong whatever the state of the system.

    Args:
        message: One sentence; names the place.
        field: Path of the wrong field, such as ``entry.title`` or ``requests[3].question``.
        violations: (field, description) pairs, where several fields are wrong.
    """

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_ARGUMENT"

    def __init__(
        self, message: str, *, field: str | None = None, violations: Iterable[tuple[str, str]] = (), **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.violations: list[tuple[str, str]] = list(violations) or ([(field, message)] if field else [])

    @classmethod
    def from_pydantic(cls, error: Any, *, what: str, prefix: str = "", reason: str | None = None) -> InvalidArgument:
        """Makes one error of a pydantic ValidationError, without the values that it complains of.

        Args:
            error: The ``pydantic.ValidationError``.
            what: What was validated, for the message, such as "run spec".
            prefix: Path of the field that held it, such as ``run.spec``.
            reason: Another reason than INVALID_ARGUMENT.
        """
        violations = []
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"])
            violations.append(((prefix + path).lstrip(".") or what, item["msg"]))
        summary = "; ".join(f"{field}: {text}" for field, text in violations[:5])
        more = f"; and {len(violations) - 5} more" if len(violations) > 5 else ""
        return cls(f"{what} is not valid: {summary}{more}", violations=violations, reason=reason)

    def details(self) -> list[Message]:
        if not self.violations:
            return []
        bad = error_details_pb2.BadRequest()
        for field, description in self.violations:
            bad.field_violations.add(field=_clean(field, 200), description=_clean(description, 300))
        return [bad]


class _ResourceError(NesycdError):
    def __init__(self, message: str, *, resource_type: str = "", resource_name: str = "", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.resource_type = resource_type
        self.resource_name = resource_name

    def details(self) -> list[Message]:
        if not self.resource_name and not self.resource_type:
            return []
        return [
            error_details_pb2.ResourceInfo(
                resource_type=_clean(self.resource_type, 100), resource_name=_clean(self.resource_name, 300)
            )
        ]


class NotFound(_ResourceError):
    """A named resource does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(_ResourceError):
    """A resource of this name exists, and differs."""

    code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(NesycdError):
    """The system must be changed before this request can succeed: do not just repeat it.

    Args:
        message: One sentence.
        subject: What is in the wrong state, such as a resource name.
    """

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"

    def __init__(self, message: str, *, subject: str = "", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.subject = subject

    def details(self) -> list[Message]:
        if not self.subject:
            return []
        failure = error_details_pb2.PreconditionFailure()
        failure.violations.add(
            type=self.reason, subject=_clean(self.subject, 300), description=_clean(self.message, 300)
        )
        return [failure]


class Aborted(NesycdError):
    """Somebody else changed the same thing (etag): read again, then repeat."""

    code = grpc.StatusCode.ABORTED
    default_reason = "CONFLICT"


class ResourceExhausted(NesycdError):
    """A limit, a budget or a disk is used up.

    Args:
        message: One sentence.
        subject: What the limit is on, such as ``run:r1`` or ``disk:/data`` (QuotaFailure).
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, *, subject: str = "", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.subject = subject

    def details(self) -> list[Message]:
        if not self.subject:
            return []
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=_clean(self.subject, 300), description=_clean(self.message, 300))
        return [failure]


class Unavailable(NesycdError):
    """Something that is needed is down for now; the same request may succeed later."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(NesycdError):
    """The caller's deadline passed before the work was done."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Unauthenticated(NesycdError):
    """No credentials, or wrong ones."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(NesycdError):
    """The caller is known, and may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class DataLoss(NesycdError):
    """Stored data is damaged and cannot be recovered by repeating."""

    code = grpc.StatusCode.DATA_LOSS
    default_reason = "DATA_LOSS"


class OutOfRange(NesycdError):
    """The request goes past the end of what exists."""

    code = grpc.StatusCode.OUT_OF_RANGE
    default_reason = "OUT_OF_RANGE"


class Unimplemented(NesycdError):
    """This server does not offer that."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "UNIMPLEMENTED"


class Cancelled(NesycdError):
    """The caller, or somebody on its behalf, cancelled the work."""

    code = grpc.StatusCode.CANCELLED
    default_reason = "CANCELLED"


class Internal(NesycdError):
    """A defect of ours. Never for a user's mistake."""

    code = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"


_CLASSES: dict[grpc.StatusCode, type[NesycdError]] = {
    cls.code: cls
    for cls in (
        NesycdError, InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, Aborted, ResourceExhausted, Unavailable,
        DeadlineExceeded, Unauthenticated, PermissionDenied, DataLoss, OutOfRange, Unimplemented, Cancelled, Internal,
    )
}  # fmt: skip

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

# A limit on the size of files is a full disk to whom it stops.
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PEER_IS_WRONG = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Codes of a further call that say nothing about our caller's request: its own credentials are not meant."""


def code_of(number: int) -> grpc.StatusCode:
    """The status code of a number; UNKNOWN where gRPC has none."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def status_proto(error: NesycdError) -> status_pb2.Status:
    """The google.rpc.Status of an error: for the trailers of a call, or for one row of a stream."""
    status = status_pb2.Status(code=error.code.value[0], message=_clean(error.message, _MAX_MESSAGE_BYTES))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in list(error.metadata.items())[:16]:
        info.metadata[_clean(key, 64)] = _clean(value, 200)
    details: list[Message] = [info]
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(max(0, round(error.retry_after * 1000)))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if context.request_id.get():
        details.append(error_details_pb2.RequestInfo(request_id=context.request_id.get()))
    for detail in [*details, *error.details()]:
        _fit(detail, _MAX_STATUS_BYTES - status.ByteSize())
        packed = AnyProto()
        packed.Pack(detail)
        if status.ByteSize() + packed.ByteSize() <= _MAX_STATUS_BYTES:
            status.details.append(packed)
    for packed in error.attached:
        if status.ByteSize() + packed.ByteSize() <= _MAX_STATUS_BYTES:
            status.details.append(packed)
    return status


def from_status_proto(status: status_pb2.Status) -> NesycdError:
    """Reads a status back into the exception that it was made of, as far as the details tell."""
    return _rebuild(code_of(status.code), status.message, status)


def from_rpc_error(error: grpc.aio.AioRpcError) -> NesycdError:
    """Reads what a failed call brought back: class by code, reason, metadata, retry_after and the other details."""
    try:
        # rpc_status is written for the synchronous call object, and AioRpcError offers what it reads.
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:  # details that contradict the code or message: some proxy rewrote them
        status = None
    return _rebuild(error.code(), error.details() or error.code().name, status)


def from_exception(error: BaseException) -> NesycdError | None:
    """The error that an exception stands for, or None where it is a defect that nobody foresaw.

    Looks into exception groups (one NesycdError in a TaskGroup is that error), full disks, failed further calls and
    timeouts that the caller's deadline explains.
    """
    if isinstance(error, NesycdError):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [known for inner in error.exceptions if (known := from_exception(inner)) is not None]
        return found[0] if found else None
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return disk_full(str(error.filename or ""))
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return disk_full()
    if isinstance(error, grpc.aio.AioRpcError) and error.code() not in _PEER_IS_WRONG:
        return from_rpc_error(error)
    if isinstance(error, TimeoutError) and context.remaining() == 0.0:
        return deadline_exceeded()
    return None


def internal(request_id: str) -> Internal:
    """What a caller is told of an exception that nobody foresaw: where to look, and nothing of its text."""
    return Internal(f"internal error, see the server log (request id {request_id})")


def disk_full(where: str = "") -> ResourceExhausted:
    """No space is left on the disk that holds ``where``; only the name of the last path component is told."""
    name = where.rstrip("/").rsplit("/", 1)[-1]
    return ResourceExhausted(
        f"no space left on the disk{f' while writing {name}' if name else ''}; free some, then repeat the request",
        reason="DISK_FULL",
        subject="disk",
    )


def deadline_exceeded() -> DeadlineExceeded:
    """The caller's deadline is over."""
    return DeadlineExceeded("the deadline passed before the work was done; repeat the request with a longer one")


def _rebuild(code: grpc.StatusCode, message: str, status: status_pb2.Status | None) -> NesycdError:
    kwargs: dict[str, Any] = {}
    # Without details the peer is not ours, or the call never reached it: the reason is the code's own.
    kwargs["reason"] = _CLASSES.get(code, NesycdError).default_reason
    attached: list[AnyProto] = []
    for packed in status.details if status else ():
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = _unpack(packed, error_details_pb2.ErrorInfo())
            kwargs.update(reason=info.reason, metadata=dict(info.metadata))
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            kwargs["retry_after"] = _unpack(packed, error_details_pb2.RetryInfo()).retry_delay.ToMilliseconds() / 1000
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR) and code is grpc.StatusCode.INVALID_ARGUMENT:
            bad = _unpack(packed, error_details_pb2.BadRequest())
            kwargs["violations"] = [(v.field, v.description) for v in bad.field_violations]
        elif packed.Is(error_details_pb2.ResourceInfo.DESCRIPTOR) and issubclass(_CLASSES[code], _ResourceError):
            resource = _unpack(packed, error_details_pb2.ResourceInfo())
            kwargs.update(resource_type=resource.resource_type, resource_name=resource.resource_name)
        elif packed.Is(error_details_pb2.QuotaFailure.DESCRIPTOR) and code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            quota = _unpack(packed, error_details_pb2.QuotaFailure())
            kwargs["subject"] = quota.violations[0].subject if quota.violations else ""
        elif (
            packed.Is(error_details_pb2.PreconditionFailure.DESCRIPTOR) and code is grpc.StatusCode.FAILED_PRECONDITION
        ):
            failed = _unpack(packed, error_details_pb2.PreconditionFailure())
            kwargs["subject"] = failed.violations[0].subject if failed.violations else ""
        elif not packed.type_url.split("/")[-1].startswith("google.rpc."):
            attached.append(packed)
    error = _CLASSES.get(code, NesycdError)(message, **kwargs)
    error.code = code
    error.attached = attached
    return error


def _unpack(packed: AnyProto, into: Any) -> Any:
    packed.Unpack(into)
    return into


def _clean(text: str, limit: int) -> str:
    """Valid UTF-8 of at most ``limit`` bytes: protobuf refuses lone surrogates."""
    raw = text.encode("utf-8", "replace")
    return (
        text.encode("utf-8", "replace").decode()
        if len(raw) <= limit
        else raw[: limit - 3].decode("utf-8", "ignore") + "..."
    )


def _fit(detail: Message, limit: int) -> None:
    """Drops the last field violations until the detail fits."""
    if isinstance(detail, error_details_pb2.BadRequest):
        while len(detail.field_violations) > 1 and detail.ByteSize() + 100 > limit:
            del detail.field_violations[-1]


for _reason, _meaning, _remedy in (
    ("INVALID_ARGUMENT", "A field of the request is missing or has a wrong value.", "Correct the fields that field_violations names."),
    ("MALFORMED_REQUEST", "The bytes of the request are not the message that the method takes.", "Use stubs made from the published contracts."),
    ("INVALID_PAGE_TOKEN", "The page token is damaged, or belongs to another list.", "Pass the token on as it came, with the same parent, filter and order; or start again without one."),
    ("NOT_FOUND", "The named resource does not exist.", "Check the name in resource_info; list its collection to see what exists."),
    ("ALREADY_EXISTS", "A resource of this name exists already.", "Choose another id, or update the one that exists."),
    ("FAILED_PRECONDITION", "The system is not in a state in which this can be done.", "Do what the message says first; repeating alone does not help."),
    ("CONFLICT", "Somebody else changed the resource in the meantime: the etag is out of date.", "Read it again, apply the change to what you read, and repeat."),
    ("RESOURCE_EXHAUSTED", "A limit is used up.", "Wait for the time in retry_info where there is one, or raise the limit that quota_failure names."),
    ("TOO_MANY_CALLS", "The server runs as many calls as it is allowed to (max_concurrent_calls).", "Repeat after the time in retry_info; raise the setting or add replicas where it lasts."),
    ("DISK_FULL", "The server could not write: no space is left on its disk.", "Free space or enlarge the volume, then repeat the request."),
    ("UNAVAILABLE", "Something that the service needs cannot be reached for now, or the service itself cannot.", "Repeat later, with growing pauses; `nesycd doctor` tells what is down."),
    ("NOT_READY", "The server has started and still loads what it needs.", "Repeat after the time in retry_info; wait for its health to be SERVING."),
    ("SERVER_STOPPING", "The server stops and takes no new calls, or its grace time ended before this call did.", "Repeat the request: another replica, or the restarted server, answers it."),
    ("DEADLINE_EXCEEDED", "The deadline that the caller set passed before the work was done.", "Repeat with a longer deadline, or ask for less at a time."),
    ("UNAUTHENTICATED", "The call carried no valid bearer token.", "Send the metadata `authorization: Bearer <token>` with the token that the server was given."),
    ("PERMISSION_DENIED", "The caller may not do this.", "Ask the operator for the permission."),
    ("DATA_LOSS", "Stored data is damaged.", "Restore it from a backup or make it again; see the server log."),
    ("OUT_OF_RANGE", "The request goes past the end of what exists.", "Ask within the range that the message names."),
    ("UNIMPLEMENTED", "This server does not offer the method.", "Use a version or a configuration that does."),
    ("CANCELLED", "The caller cancelled the call, or the run that it belongs to.", "Nothing, if that was meant."),
    ("INTERNAL", "A defect of the server.", "Look for the request id in the server log, and report what stands there."),
    ("UNKNOWN", "A server outside of this system failed without saying why.", "Look at that server's log."),
):  # fmt: skip
    register_reason(_reason, _meaning, _remedy)
