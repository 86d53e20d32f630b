"""What an engine must do: turn prompts into text.

One that computes in this process is an `Engine`, which a `Batcher` feeds; one that asks a server, which makes batches by
itself, is a `Completer` of its own.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

Finish = Literal["stop", "length", "cancelled", "deadline"]


@dataclass(frozen=True)
class Decoding:
    """How to write.

    Attributes:
        temperature: 0 is greedy.
        top_p: Nucleus, above 0 and at most 1.
        top_k: Only the most likely tokens; 0 is all.
        seed: Makes sampling repeatable, whatever else is in the batch.
        max_new_tokens: Most tokens to write, at least 1.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    max_new_tokens: int = 128


@dataclass(eq=False)
class Job:
    """A prompt to complete. `cancel` and `deadline` are looked at between two tokens.

    Attributes:
        prompt: The text to complete.
        decoding: How to write.
        stop_after: The text is complete at the first line end after these words at which it has an answer
            (`method.answers.is_complete`); with empty words, at the first line end after anything was written.
        stop_before: The text is complete where these words begin, and `stop_after` does not count; empty: it does.
        scored: Report how probable each token was.
        on_text: Called from the engine's thread with the next characters as they are written.
        deadline: When the caller stops waiting, on `time.monotonic`'s clock; None is never.
    """

    prompt: str
    decoding: Decoding = field(default_factory=Decoding)
    stop_after: str = ""
    stop_before: str = ""
    scored: bool = False
    on_text: Callable[[str], None] | None = None
    deadline: float | None = None
    _cancelled: bool = False

    def cancel(self) -> None:
        """Nobody waits any more: its decoding ends at the next step."""
        self._cancelled = True

    def gone(self) -> Literal["cancelled", "deadline"] | None:
        """Why nobody waits any more, or None."""
        if self._cancelled:
            return "cancelled"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "deadline"
        return None


@dataclass(frozen=True)
class Token:
    """A token that was written.

    Attributes:
        end: How far the text goes with it, in characters.
        log_probability: The natural logarithm of the model's probability for it, whatever the temperature was.
    """

    end: int
    log_probability: float


@dataclass(frozen=True)
class Completion:
    """What was written.

    Attributes:
        text: The text without white space around it.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens that were written.
        finish: `stop`: the model ended; `length`: cut off; `cancelled`, `deadline`: nobody waited.
        tokens: Those that were written, where the job wanted them scored. The last ones may lie behind the text's end.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish: Finish
    tokens: tuple[Token, ...] = ()


class UnsupportedAdapter(ValueError):
    """An adapter of a kind that the engine cannot apply, or that does not fit the model; says why."""


class Weights(Protocol):
    """An adapter that an engine has prepared; opaque to everything else."""

    @property
    def name(self) -> str:
        """The adapter's name."""
        ...


Result = TypeVar("Result")
Complete = Callable[[Job, Weights | None], Awaitable[Completion]]
"""Completes a prompt with an adapter."""


class Model(Protocol):
    """What one must know of a model to write a prompt for it."""

    context_length: int
    """Most tokens of a prompt and its completion together."""

    def count_tokens(self, text: str) -> int:
        """How many tokens a prompt has, special ones included. Callable from any thread."""
        ...


class Completer(Protocol):
    """Completes prompts for many callers at once. Called from the event loop."""

    async def complete(self, job: Job, adapter: Weights | None) -> Completion:
        """Completes a prompt.

        Args:
            job: The prompt; it fits the context together with its `max_new_tokens`.
            adapter: From `prepare`; None is the base model.

        Raises:
            NesycdError: The job's deadline passed, for instance.
        """
        ...

    async def together(self, works: Sequence[Callable[[Complete], Awaitable[Result]]]) -> list[Result]:
        """Does works that belong together; each is given the function that completes its prompts.

        Raises:
            Exception: The first that a work raised.
        """
        ...


class Engine(Model, Protocol):
    """A model that completes prompts in this process. Its own methods are called from one thread at a time."""

    def prepare(self, name: str, config: Mapping[str, Any], tensors: bytes) -> Weights:
        """Reads and checks an adapter.

        Args:
            name: The adapter's name, for messages.
            config: Its `adapter_config.json`.
            tensors: Its `adapter_model.safetensors`.

        Raises:
            UnsupportedAdapter: It is of a kind that the engine cannot apply, or does not fit the model.
        """
        ...

    def generate(
        self, jobs: Sequence[Job], adapter: Weights | None, pause: Callable[[], None] | None = None
    ) -> list[Completion]:
        """Completes prompts together.

        Args:
            jobs: The prompts; each fits the context together with its `max_new_tokens`.
            adapter: From `prepare`; None is the base model.
            pause: Is called between two steps, from the engine's thread, and may call `generate` for other jobs: that
                changes nothing of what is written here.

        Returns:
            What was written, in the order of `jobs`.
        """
        ...
