"""The canonical key of a request: equal questions have equal keys, whoever asks and for whichever run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from services.common.numbers import whole_numbers
from services.teacher.types import Question

# Part of what is hashed. A change of what the key covers raises it: old answers are then not found, never mistaken.
KEY_VERSION = 1
SEED_LIMIT = 2**31 - 1


def canonical_json(value: Any) -> str:
    """Returns the one JSON text of a value: sorted names, no spaces, no NaN.

    Raises:
        ValueError: The value holds NaN or infinity.
    """
    return json.dumps(whole_numbers(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def request_key(question: Question) -> str:
    """Returns the sha256 (hex) of all that decides the answer: not the run, the caller, the budget or skip_cache."""
    what = {
        "version": KEY_VERSION,
        "model": question.model,
        "messages": [asdict(message) for message in question.messages],
        "sampling": {**asdict(question.sampling), "stop": sorted(set(question.sampling.stop))},
        "schema": question.schema,
        "schema_name": question.schema_name if question.schema is not None else "",
        "sample": question.sample,
    }
    return hashlib.sha256(canonical_json(what).encode()).hexdigest()


def seed_of(question: Question, key: str, asked: int = 0) -> int:
    """Returns the seed to send: always one, and another one for each sample and each time of asking again.

    Args:
        question: The request.
        key: Its key.
        asked: How often the teacher was already asked and gave no valid answer.
    """
    given = question.sampling.seed
    if given is not None and question.sample == 0 and asked == 0:
        return given
    base = int(key[:8], 16) if given is None else given + 7919 * question.sample
    return (base + 104_729 * asked) % SEED_LIMIT
