"""Numbers as a protobuf Struct brings them, which has only doubles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def whole_numbers(value: Any) -> Any:
    """Returns a JSON value in which numbers that are equal are written alike, 3.0 as 3.

    A run spec's fields want whole numbers where they count something, and teachers refuse a schema's `"minItems": 3.0`.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_numbers(item) for item in value]
    return value
