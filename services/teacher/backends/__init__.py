"""How to speak to a teacher. A back-end asks once; when and how often is the proxy's matter."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

from services.common.http import error_codes, parse_retry_after
from services.teacher.settings import Settings
from services.teacher.types import Completion, Finish, Question, Sampling

OnText = Callable[[str], None]
# OpenAI, vLLM, SGLang and llama.cpp say the first of each; TGI the others.
_FINISH = {
    "stop": Finish.STOP,
    "eos_token": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "length": Finish.LENGTH,
    "content_filter": Finish.REFUSED,
}


class Trouble(enum.Enum):
    """What can go wrong at the teacher, as far as the proxy must tell it apart."""

    TRANSPORT = "it cannot be reached, or the connection broke"
    PROXY = "the proxy on the way to it cannot be reached, or lets nobody through"
    TIMEOUT = "it did not answer in time"
    RATE_LIMITED = "it limits the rate"
    SERVER = "it failed"
    BROKEN = "its response is not a chat completion"
    KEY = "it refused the key"
    MODEL = "it does not know the model, or has nothing at this address"
    QUOTA = "the account's quota is used up"
    REQUEST = "it rejected the request"


RETRIABLE = {Trouble.TRANSPORT, Trouble.PROXY, Trouble.TIMEOUT, Trouble.RATE_LIMITED, Trouble.SERVER}


class UpstreamError(Exception):
    """A request to the teacher that gave no completion.

    Args:
        trouble: The class.
        status: The HTTP status; 0 where there was none.
        code: The provider's error code, where it gave a short one.
        retry_after: Seconds that the provider asks to wait.
        maybe_paid: The teacher had the request and did not say that it failed: its answer was lost, and may be charged.
    """

    def __init__(
        self,
        trouble: Trouble,
        status: int = 0,
        code: str = "",
        retry_after: float | None = None,
        *,
        maybe_paid: bool = False,
    ) -> None:
        self.maybe_paid = maybe_paid
        self.trouble = trouble
        self.status = status
        self.code = code
        self.retry_after = retry_after
        super().__init__(str(self))

    def __str__(self) -> str:
        extra = ", ".join(filter(None, [f"HTTP {self.status}" if self.status else "", self.code]))
        return self.trouble.value + (f" ({extra})" if extra else "")


class Backend(Protocol):
    """A way to ask a teacher."""

    async def complete(self, question: Question, sampling: Sampling, on_text: OnText | None = None) -> Completion:
        """Asks once.

        Args:
            question: What to ask; its own sampling is not used.
            sampling: The sampling in force, seed included.
            on_text: Is given the text in pieces as they are written; a back-end that cannot do this does not call it.

        Raises:
            UpstreamError: There is no completion.
        """
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...


def from_status(status: int, retry_after: str | None, body: Any) -> UpstreamError:
    """Sorts an HTTP error by its status and the provider's error code."""
    codes = error_codes(body)
    if status == 402 or "insufficient_quota" in codes:
        trouble = Trouble.QUOTA
    elif status in (401, 403):
        trouble = Trouble.KEY
    elif status == 404:
        trouble = Trouble.MODEL
    elif status == 429:
        trouble = Trouble.RATE_LIMITED
    elif status in (408, 409, 425) or status >= 500:
        trouble = Trouble.SERVER
    else:
        trouble = Trouble.REQUEST
    return UpstreamError(trouble, status, next(iter(codes), ""), parse_retry_after(retry_after))


def read_completion(body: Any, model: str) -> Completion:
    """Reads a chat completion (OpenAI's shape, which TGI shares).

    Args:
        body: The parsed response.
        model: The model that was asked, for a response that names none.

    Raises:
        UpstreamError: BROKEN, where it is no chat completion.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        refused = bool(message.get("refusal"))
        finish = Finish.REFUSED if refused else _FINISH.get(choice.get("finish_reason") or "", Finish.UNKNOWN)
        named = body.get("model") or model
        if not all(isinstance(value, str) for value in (text, reasoning, named)):
            raise TypeError
    except (AttributeError, IndexError, KeyError, TypeError):
        raise UpstreamError(Trouble.BROKEN, maybe_paid=True) from None
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Completion(
        text, reasoning, finish, named, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    )


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else -1


def make_backend(settings: Settings) -> Backend:
    """Returns the back-end that the settings name; its libraries are loaded only then."""
    if settings.backend == "tgi":
        from services.teacher.backends.tgi import TgiBackend

        return TgiBackend(settings)
    from services.teacher.backends.openai import OpenAiBackend

    return OpenAiBackend(settings)
