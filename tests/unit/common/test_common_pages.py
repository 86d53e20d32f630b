from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.common.pages import decode_page_token, encode_page_token, is_number, is_text, page_size


@given(st.text(), st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_a_token_brings_its_payload_back(kind, payload):
    assert decode_page_token(kind, encode_page_token(kind, payload)) == payload


def test_no_token_is_the_first_page():
    assert decode_page_token("entries", "") is None


def test_the_token_of_another_list_is_refused():
    with pytest.raises(InvalidArgument, match="another list") as caught:
        decode_page_token("entries:b", encode_page_token("entries:a", 3))
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
    assert caught.value.violations[0][0] == "page_token"


@given(st.text(min_size=1))
def test_any_other_text_is_refused(token):
    with pytest.raises(InvalidArgument) as caught:
        decode_page_token("entries", token)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


def test_a_changed_token_is_refused():
    token = encode_page_token("entries", {"after": "abc"})
    for position in range(len(token) - 1):
        other = "A" if token[position] != "A" else "B"
        with pytest.raises(InvalidArgument):
            decode_page_token("entries", token[:position] + other + token[position + 1 :])


def test_page_sizes():
    assert [page_size(n, default=10, maximum=100) for n in (0, 1, 100, 5000)] == [10, 1, 100, 100]
    with pytest.raises(InvalidArgument):
        page_size(-1)


@pytest.mark.parametrize(
    ("fits", "payload"),
    [
        (is_text, 3),
        (is_text, None),
        (is_text, "\udc80"),
        (is_text, "x" * 300),
        (is_number, -1),
        (is_number, True),
        (is_number, 2**63),
    ],
)
def test_a_token_whose_payload_the_list_never_makes_is_refused(fits, payload):
    with pytest.raises(InvalidArgument, match="damaged"):
        decode_page_token("entries", encode_page_token("entries", payload), fits)
