"""What a server that writes for the student must do, and what can go wrong with one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from services.common.errors import FailedPrecondition, NesycdError, Unavailable
from services.common.http import error_codes, parse_retry_after
from services.student import reasons
from services.student.engines.base import Job

BEHIND_PROXY = "is behind a proxy that cannot be reached, or lets nobody through"
_RETRY_SECONDS = 1.0
_PASSING = (408, 425, 429, 502, 503, 504)


@dataclass(frozen=True)
class Piece:
    """What a server tells of a completion at a time.

    Attributes:
        text: The next characters.
        tokens: The tokens that they are, each with the natural logarithm of its probability, where the server tells.
        finish: Why the text ended: `stop`: the model or the stop words ended it; `length`: it was cut off.
        prompt_tokens: Tokens of the prompt, as the server counts them.
        completion_tokens: Tokens that were written, as the server counts them.
    """

    text: str = ""
    tokens: tuple[tuple[str, float], ...] = ()
    finish: Literal["stop", "length"] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Served:
    """What a server serves.

    Attributes:
        model: The base model's name there.
        context_length: Most tokens of a prompt and its completion together; 0 where the server does not tell.
    """

    model: str
    context_length: int


class Server(Protocol):
    """A way to speak to a server. It asks once; when and how often is `RemoteEngine`'s matter."""

    async def describe(self) -> Served:
        """What it serves.

        Raises:
            Unavailable: It does not answer now.
            FailedPrecondition: Its settings or ours are wrong.
        """
        ...

    def write(self, job: Job, model: str) -> AsyncGenerator[Piece, None]:
        """Completes a prompt, piece by piece; closing the generator ends the work at the server.

        Args:
            job: The prompt. The text may go on behind the end that `job` asks for.
            model: The model's name there.

        Raises:
            Passing: A new try may help at once.
            UnknownModel: It does not know the model.
            Unavailable, FailedPrecondition: As for `describe`.
        """
        ...

    async def check(self, model: str) -> None:
        """Makes sure that a model, other than the base model, can be asked.

        Raises:
            FailedPrecondition: It is not there.
            Unavailable: The server does not answer now.
        """
        ...

    async def load(self, name: str, path: str) -> str:
        """Loads an adapter, and returns its model's name; one that is loaded stays as it is.

        Args:
            name: What it is to be called there.
            path: Its folder, as the server sees it.

        Raises:
            FailedPrecondition: The server cannot load it.
            Unavailable: The server does not answer now.
        """
        ...

    async def unload(self, name: str) -> None:
        """Forgets an adapter that was loaded; raises as `load` does."""
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...


class Passing(Unavailable):
    """The server is away or overloaded for the moment; `asked_wait` says how many seconds it asks to wait, if it does."""

    def __init__(self, what: str, asked_wait: float | None = None) -> None:
        super().__init__(
            _sentence(what), reason=reasons.ENGINE_UNAVAILABLE, retry_after=max(_RETRY_SECONDS, asked_wait or 0.0)
        )
        self.asked_wait = asked_wait


class UnknownModel(FailedPrecondition):
    """The server does not know the model, or has nothing at this address."""


def unavailable(what: str) -> Unavailable:
    """The error for a server that does not do what it should: `what` completes "the server"."""
    return Unavailable(_sentence(what), reason=reasons.ENGINE_UNAVAILABLE, retry_after=_RETRY_SECONDS)


def refused(what: str) -> FailedPrecondition:
    """The error for a server that does not want to: `what` completes "the server"."""
    return FailedPrecondition(
        f"the server that writes for the student {what}", reason=reasons.ENGINE_REFUSED, subject="engine"
    )


def not_on_engine(name: str, what: str) -> FailedPrecondition:
    """The error for an adapter that the server does not have: `what` completes "the server"."""
    return FailedPrecondition(
        f"{name} cannot be served: the server that writes for the student {what}",
        reason=reasons.ADAPTER_NOT_ON_ENGINE,
        subject=name,
    )


def from_status(status: int, retry_after: str | None, body: Any, model: str = "") -> NesycdError:
    """The error for a response other than 200.

    Args:
        status: The HTTP status.
        retry_after: The header of that name.
        body: The parsed response, whatever it is.
        model: The model that was asked, if one was.
    """
    said = f"({', '.join([f'HTTP {status}', *error_codes(body)[:1]])})"
    if status in _PASSING:
        doing = "limits the rate" if status == 429 else "cannot answer now"
        return Passing(f"{doing} {said}", parse_retry_after(retry_after))
    if status >= 500 or status == 424:
        return unavailable(f"failed {said}; its log tells why")
    if status in (401, 403):
        return refused(f"refuses the key {said}: check NESYCD_STUDENT_ENGINE_API_KEY")
    if status == 404:
        error = refused(f"does not know {f'model {model[:100]!r}' if model else 'this API'}, or has nothing at this address {said}")  # fmt: skip
        return UnknownModel(error.message, reason=error.reason, subject=error.subject)
    if 300 <= status < 400:
        return refused(f"is at another address {said}: name that one in NESYCD_STUDENT_ENGINE_URL")
    return refused(
        f"rejects the request {said}; its log tells why: a longer prompt than it takes (NESYCD_STUDENT_ENGINE_CONTEXT_LENGTH), "
        "or fields that it does not know (NESYCD_STUDENT_ENGINE_EXTRA_FIELDS=false)"
    )


def _sentence(what: str) -> str:
    return f"the server that writes for the student {what}; repeat the request shortly"
