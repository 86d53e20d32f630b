"""A teacher behind a company's proxy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services.common import errors
from services.teacher import reasons
from services.teacher.backends import Backend, Trouble, UpstreamError
from services.teacher.backends.openai import OpenAiBackend
from services.teacher.backends.tgi import TgiBackend
from services.teacher.settings import Settings
from services.teacher.types import Message, Question, Sampling
from tests.proxy import company_proxy

SAMPLING = Sampling(temperature=0, top_p=1, max_tokens=8)


@pytest.mark.parametrize("backend", [OpenAiBackend, TgiBackend])
async def test_a_proxy_that_refuses_is_told_and_nothing_is_booked(
    monkeypatch: pytest.MonkeyPatch, backend: type[Backend]
) -> None:
    # Read when it is imported, which another test may have done.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    async with company_proxy(monkeypatch, "HTTPS_PROXY") as proxy:
        teacher = backend(Settings(upstream_url="https://teacher.example.com/v1", upstream_api_key="key"))  # type: ignore[call-arg]
        try:
            with pytest.raises(UpstreamError) as caught:
                await teacher.complete(Question((Message("user", "Hello?"),), "m", SAMPLING), SAMPLING)
        finally:
            await teacher.close()
    assert proxy.lines == ["CONNECT teacher.example.com:443 HTTP/1.1"]
    assert caught.value.trouble is Trouble.PROXY and not caught.value.maybe_paid
    told = reasons.public_error(caught.value, "m", 1)
    assert isinstance(told, errors.Unavailable) and "HTTPS_PROXY" in told.message


def test_with_tgi_nobody_else_is_asked() -> None:
    program = (
        "from services.teacher.backends.tgi import TgiBackend; from services.teacher.settings import Settings;"
        "TgiBackend(Settings(upstream_url='https://tgi.example.com')); from huggingface_hub import constants;"
        "print(constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
