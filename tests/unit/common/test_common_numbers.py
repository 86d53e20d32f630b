"""Numbers that a protobuf Struct made doubles of are whole again, wherever they stand."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2

from services.common.numbers import whole_numbers


@pytest.mark.parametrize("number", [0, 3, -8, 2**53, 2**60, 1e300, 0.5, -1.5])
def test_numbers_that_are_equal_are_written_alike(number: float) -> None:
    assert repr(whole_numbers(float(number))) == repr(int(number) if number == int(number) else number)


def test_what_a_struct_brings_is_what_was_sent() -> None:
    sent: dict[str, Any] = {"minItems": 3, "enum": [1, 2.5, {"deep": [0]}], "yes": True, "no": None, "text": "3.0"}
    given = json_format.MessageToDict(json_format.ParseDict(sent, struct_pb2.Struct()))
    assert repr(whole_numbers({name: given[name] for name in sent})) == repr(sent)


def test_names_are_text_as_json_has_them() -> None:
    assert whole_numbers({1: (2.0,)}) == {"1": [2]}
