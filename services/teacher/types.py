"""What the core speaks of. Nothing here knows gRPC, HTTP or Redis."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

STORED_VERSION = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation: `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; `max_tokens` is in tokens, `seed` None means: derived from the request's key."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One request, defaults filled in.

    Attributes:
        messages: The conversation.
        model: The teacher's model.
        sampling: How to sample.
        schema: The JSON schema that the answer must satisfy; None for free text.
        schema_name: A short name of the schema, sent to the teacher.
        sample: Which of several samples of the same request this is.
        run: The run that is charged, or "".
        caller: Who asks, or "".
        skip_cache: Ask again although an answer is stored.
        budget_usd: The run's budget in US dollars; 0 for none.
    """

    messages: tuple[Message, ...]
    model: str
    sampling: Sampling
    schema: dict[str, Any] | None = None
    schema_name: str = ""
    sample: int = 0
    run: str = ""
    caller: str = ""
    skip_cache: bool = False
    budget_usd: float = 0.0


class Finish(enum.Enum):
    """Why the teacher stopped writing."""

    STOP = "stop"
    LENGTH = "length"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Completion:
    """What a back-end returned, not yet judged. Token counts are -1 where the teacher did not say."""

    text: str
    reasoning: str
    finish: Finish
    model: str
    prompt_tokens: int = -1
    completion_tokens: int = -1


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens, and money in billionths of a US dollar (whole numbers add up exactly)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    nano_usd: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A validated answer, as it is stored.

    Attributes:
        text: What the teacher wrote; with a schema, the JSON alone.
        reasoning: Its reasoning, where it comes apart from the answer.
        model: The model that answered.
        sampling: The parameters that were in force.
        spent: What the attempt that gave this answer cost.
        call: The request's key, `calls/{sha256}`.
        attempts: Requests to the teacher that it took.
        cached: It cost nothing now.
    """

    text: str
    reasoning: str
    model: str
    sampling: Sampling
    spent: Spent
    call: str
    attempts: int
    cached: bool = field(default=False, compare=False)

    def to_json(self) -> str:
        """Returns the stored form."""
        return json.dumps({"version": STORED_VERSION, **asdict(self)}, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, stored: str | bytes) -> Self:
        """Reads the stored form; the result says `cached` and zero attempts.

        Raises:
            ValueError: It is not a stored answer of this version.
        """
        try:
            fields = json.loads(stored)
            if fields.pop("version") != STORED_VERSION:
                raise ValueError("another version")
            fields["sampling"]["stop"] = tuple(fields["sampling"]["stop"])
            fields["sampling"] = Sampling(**fields["sampling"])
            fields["spent"] = Spent(**fields["spent"])
            return cls(**fields).as_hit()
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("not a stored answer") from error

    def as_hit(self) -> Self:
        """Returns the same answer as one that cost nothing now."""
        return replace(self, cached=True, attempts=0)
