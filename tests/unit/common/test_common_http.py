"""What is read of the responses of other servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.common.http import error_codes, parse_json, read_json


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ({"error": {"message": "you said x", "type": "invalid_request_error", "code": "context_length_exceeded"}},
         ["context_length_exceeded", "invalid_request_error"]),
        ({"error": "Model is overloaded", "error_type": "overloaded"}, ["overloaded"]),
        ({"object": "error", "type": "BadRequestError", "code": 400}, ["BadRequestError"]),
        ({"error": {"code": "you said: a whole prompt", "type": None}}, []),
        ({"error": {"code": "x" * 65}}, []),
        ({"error": []}, []),
        (["error"], []),
        (None, []),
    ],
)  # fmt: skip
def test_of_an_error_short_codes_are_read_and_no_text(body: Any, codes: list[str]) -> None:
    assert error_codes(body) == codes


@pytest.mark.parametrize("raw", [b"", b"<html>", b"\xff", b"[" * 100_000])
def test_what_is_no_json_says_nothing(raw: bytes) -> None:
    assert parse_json(raw) is None


class Endless:
    """A response whose body does not end."""

    read = 0

    @property
    def content(self) -> Endless:
        return self

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        while True:
            self.read += size
            yield b" " * size


async def test_a_body_that_does_not_end_is_not_read_to_its_end() -> None:
    response: Any = Endless()
    with pytest.raises(ValueError, match="stop"):
        await read_json(response, 1_000_000, ValueError("does not stop"))
    assert response.read <= 1_100_000
