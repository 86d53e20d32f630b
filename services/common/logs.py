"""Structured logs: one JSON object a line on stderr, without prompts and without secrets.

The redaction here is the second line of defence; the first is that nobody logs a payload.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from services.common import context

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:  # generic for type checkers only
    _StreamHandler = logging.StreamHandler

REDACTED = "[redacted]"

_PAYLOAD_KEYS = frozenset(
    "prompt prompts messages content contents text texts question questions answer answers rationale rationales completion "
    "completions response responses body payload knowledge entry entries summary request".split()
)
_SECRET_KEY = re.compile(
    r"(^|[_\-.])(token|secret|password|passwd|api_?key|authorization|cookie|credentials?)$", re.IGNORECASE
)
_SECRET_TEXT = re.compile(r"(?i)\bbearer\s+\S+|\bsk-[A-Za-z0-9_\-]{8,}|(?<=://)[^/@\s]+@")

_SAFE_TEXT = (ImportError, NameError, AttributeError)
"""Exceptions whose text the interpreter writes itself, of names in our code."""


def configure(level: str = "info") -> None:
    """Sends our logs, and those of libraries from warning on, to stderr as JSON. May be called again.

    A program that never calls this, such as a client, logs warnings and errors of ours only.

    Args:
        level: debug, info, warning or error.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    _configure_ours(number)
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_processors(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _to_json],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if not isinstance(other, _Stderr)), handler]
    root.setLevel(max(number, logging.WARNING))


def _configure_ours(number: int) -> None:
    # Ours do not pass through logging: a record there costs several times as much as the line.
    structlog.configure(
        processors=[*_processors(), _to_json],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Lines,
        cache_logger_on_first_use=False,
    )


def _processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
        _describe_exception,
        redact,
    ]


class _Lines:
    """Writes finished lines to what sys.stderr is at that moment."""

    def __init__(self, name: str = "nesycd") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        sys.stderr.write(line + "\n")

    debug = info = warning = error = critical = msg


class _Stderr(_StreamHandler):
    """Writes to what sys.stderr is at that moment, as logging's own last resort does."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def get_logger(name: str) -> Any:
    """A structlog logger; its events are named, and carry facts as keywords: ``log.info("cache hit", key=digest)``."""
    return structlog.get_logger(name if name.startswith("nesycd") else f"nesycd.{name}")


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: replaces values under keys that name a payload or a secret, and secrets inside any text."""
    return {key: _redacted(key, value) for key, value in event.items()}


def describe_exception(error: BaseException) -> dict[str, Any]:
    """What may be logged of an exception that nobody foresaw: types and code locations, not its text.

    The text often repeats the input that caused it. It is kept only where the interpreter wrote it, and as the system's
    own words for an OSError.
    """
    described: dict[str, Any] = {"error_type": _type_name(error), "error_at": _frames(error.__traceback__)}
    if isinstance(error, OSError) and error.strerror:
        described["error_detail"] = f"[Errno {error.errno}] {error.strerror}"
    elif isinstance(error, _SAFE_TEXT):
        described["error_detail"] = str(error)[:300]
    elif hasattr(error, "code") and callable(error.code):  # a failed further call
        described["error_detail"] = str(error.code())
    causes: list[dict[str, Any]] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 5:
        causes.append({"error_type": _type_name(cause), "error_at": _frames(cause.__traceback__)[-3:]})
        cause = cause.__cause__ or cause.__context__
    if causes:
        described["error_causes"] = causes
    if isinstance(error, BaseExceptionGroup):
        described["error_group"] = [describe_exception(inner) for inner in error.exceptions[:5]]
    return described


def _frames(tb: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(tb)[-20:]]


def _type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def _describe_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    exc_info = event.pop("exc_info", None)
    if exc_info:
        error = (
            exc_info
            if isinstance(exc_info, BaseException)
            else (exc_info if isinstance(exc_info, tuple) else sys.exc_info())[1]
        )
        if error is not None:
            event.update(describe_exception(error))
            record = event.get("_record")
            if record is not None:  # or the formatter would append the traceback with its text
                record.exc_info = record.exc_text = None
    return event


def _add_request_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    current = context.request_id.get()
    if current:
        event.setdefault("request_id", current)
    return event


def _redacted(key: str, value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or value is None or key.startswith("_"):
        return value
    if key.lower() in _PAYLOAD_KEYS or _SECRET_KEY.search(key):
        return REDACTED
    if isinstance(value, str):
        return _SECRET_TEXT.sub(REDACTED, value)
    if isinstance(value, dict):
        return {k: _redacted(str(k), v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted("", item) for item in value]
    return value


def _name_of_type(value: Any) -> str:
    """Objects that JSON does not know are named, not shown: their repr may hold a payload."""
    return f"<{type(value).__qualname__}>"


_to_json = structlog.processors.JSONRenderer(default=_name_of_type)
_configure_ours(logging.WARNING)
