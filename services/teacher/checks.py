"""What a request must satisfy before anything is paid, and what an answer must satisfy before it is stored."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any, NoReturn

import jsonschema
import referencing

from services.common.errors import InvalidArgument
from services.teacher.keys import canonical_json
from services.teacher.settings import Settings
from services.teacher.types import Completion, Question

ROLES = ("system", "user", "assistant")
MAX_NAME = 256
MAX_STOPS = 16
MAX_SAMPLE = 2**31 - 1
_SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{0,64}")
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL)


def check_question(question: Question, settings: Settings) -> None:
    """Refuses a request that could not be answered, naming the field.

    Raises:
        InvalidArgument: A field is wrong; its path is in the details.
    """

    def refuse(field: str, why: str) -> NoReturn:
        raise InvalidArgument(f"{field} {why}", field=field)

    if not 1 <= len(question.messages) <= settings.max_messages:
        refuse("messages", f"must have 1 to {settings.max_messages} items, not {len(question.messages)}")
    for at, message in enumerate(question.messages):
        if message.role not in ROLES:
            refuse(f"messages[{at}].role", f"must be one of {', '.join(ROLES)}")
    if not any(message.content.strip() for message in question.messages):
        refuse("messages", "must not all be empty")
    size = sum(len(message.content) for message in question.messages)
    if size > settings.max_characters:
        refuse("messages", f"have {size} characters together; at most {settings.max_characters} are allowed")
    sampling = question.sampling
    if not (math.isfinite(sampling.temperature) and 0 <= sampling.temperature <= 2):
        refuse("sampling.temperature", "must be from 0 to 2")
    if not (math.isfinite(sampling.top_p) and 0 < sampling.top_p <= 1):
        refuse("sampling.top_p", "must be above 0 and at most 1")
    if not 1 <= sampling.max_tokens <= settings.max_tokens_limit:
        refuse("sampling.max_tokens", f"must be from 1 to {settings.max_tokens_limit}")
    if sampling.seed is not None and sampling.seed < 0:
        refuse("sampling.seed", "must not be negative")
    if len(sampling.stop) > MAX_STOPS or any(not 1 <= len(stop) <= MAX_NAME for stop in sampling.stop):
        refuse("sampling.stop", f"may have {MAX_STOPS} texts of 1 to {MAX_NAME} characters")
    if not 0 <= question.sample <= MAX_SAMPLE:
        refuse("sample", "must not be negative")
    for field, name in (("model", question.model), ("run", question.run), ("caller", question.caller)):
        if len(name) > MAX_NAME or not name.isprintable():
            refuse(field, f"must be at most {MAX_NAME} printable characters")
    if not _SCHEMA_NAME.fullmatch(question.schema_name):
        refuse("response_format.name", "may have 64 letters, digits, underscores and hyphens")
    if not (math.isfinite(question.budget_usd) and question.budget_usd >= 0):
        refuse("run_budget_usd", "must be 0 or more")
    if question.budget_usd and not question.run:
        refuse("run", "must be given where run_budget_usd is")
    if question.schema is not None:
        _check_schema(question.schema, settings.max_schema_characters, refuse)


def _check_schema(schema: dict[str, Any], limit: int, refuse: Any) -> None:
    field = "response_format.json_schema"
    try:
        text = canonical_json(schema)
    except ValueError:
        refuse(field, "holds a number that JSON does not have")
    if len(text) > limit:
        refuse(field, f"has {len(text)} characters; at most {limit} are allowed")
    try:
        validator = _validator(text)
        # Finds references that lead nowhere or in circles, before an answer is paid for.
        validator.is_valid(None)
        validator.is_valid({})
    except jsonschema.SchemaError as error:
        refuse(field, f"is not a JSON schema (draft 2020-12), at {error.json_path}")
    except (referencing.exceptions.Unresolvable, RecursionError):
        refuse(field, "has a reference that leads out of it or in a circle")
    except Exception as error:
        refuse(field, f"cannot be used ({type(error).__name__})")


@lru_cache(maxsize=256)
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    parsed = json.loads(schema)
    jsonschema.Draft202012Validator.check_schema(parsed)
    # A registry of its own that holds nothing: the default one would fetch remote references over the network.
    return jsonschema.Draft202012Validator(parsed, registry=referencing.Registry())


def valid_text(completion: Completion, schema: dict[str, Any] | None) -> tuple[str, str]:
    """Looks at a finished answer.

    Args:
        completion: The answer.
        schema: What it must satisfy, or None.

    Returns:
        The text (with a schema: the JSON alone) and "", or the text and what is wrong, without quoting it.
    """
    text = completion.text
    if not text.strip():
        return text, "it is empty"
    if schema is None:
        return text, ""
    text = text.strip()
    if fenced := _FENCE.match(text):
        text = fenced.group(1).strip()
    try:
        value = json.loads(text, parse_constant=_no_constant)
        problem = next(iter(_validator(canonical_json(schema)).iter_errors(value)), None)
    except (ValueError, RecursionError):
        return text, "it is not JSON"
    if problem is not None:
        # The rule's name only: jsonschema's message repeats the answer, and a path can hold its words.
        return text, f"it breaks the schema's rule {problem.validator!r}"
    return text, ""


def _no_constant(name: str) -> None:
    raise ValueError(name)
