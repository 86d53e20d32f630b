"""What goes through a company's proxy, and what never does."""

from __future__ import annotations

import base64

import aiohttp
import grpc
import pytest
from pydantic import SecretStr

from services.common.channel import connect
from services.common.http import http_session, proxy_for
from tests.proxy import NAMES, company_proxy
from tests.unit.common.conftest import Client

PROXY = "http://proxy.example.com:3128"


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables of proxies; all others of them are gone."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return lambda **variables: [monkeypatch.setenv(name, value) for name, value in variables.items()]


@pytest.mark.parametrize("variable", ("HTTPS_PROXY", "https_proxy"))
async def test_a_server_elsewhere_is_asked_through_the_proxy_with_its_password_and_without_the_key(
    monkeypatch, variable
):
    url = "https://teacher.example.com/v1/chat/completions"
    async with (
        company_proxy(monkeypatch, variable) as proxy,
        http_session(url, SecretStr("s3cret"), seconds=10, connect_seconds=5) as http,
    ):
        with pytest.raises(aiohttp.ClientHttpProxyError):
            await http.post(url, json={})
    (head,) = proxy.asked
    assert head.startswith("CONNECT teacher.example.com:443 ")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'team:pass').decode()}" in head
    assert "s3cret" not in head


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("https://api.example.com/v1", True),
        ("http://api.example.com/v1", False),  # HTTPS_PROXY is for https
        ("https://vllm.models.svc", False),
        ("https://vllm.models.svc:8000", False),
        ("https://vllm.models.svc.cluster.local:8000/v1", False),
        ("https://models.internal:8443", False),
        ("https://models.internal", True),  # only that port is named
        ("https://10.1.2.3", False),
        ("https://10.1.2.4", True),
    ],
)
def test_no_proxy_names_the_ends_of_names(environment, url, proxied):
    environment(HTTPS_PROXY=PROXY, NO_PROXY=".svc,.cluster.local, models.internal:8443,10.1.2.3")
    assert proxy_for(url) == (PROXY if proxied else None)


@pytest.mark.parametrize("host", ("127.0.0.1", "localhost", "[::1]", "user@127.0.0.1"))
def test_a_server_of_this_machine_is_never_asked_through_a_proxy(environment, host):
    environment(http_proxy=PROXY, https_proxy=PROXY)
    assert proxy_for(f"http://{host}:8089/v1") is None and proxy_for(f"https://{host}:8089/v1") is None


def test_a_proxy_may_be_given_without_its_scheme(environment):
    environment(HTTP_PROXY="proxy.example.com:3128")
    assert proxy_for("http://api.example.com") == PROXY


async def test_services_are_never_called_through_a_proxy(start, monkeypatch):
    async with company_proxy(monkeypatch, "grpc_proxy", "https_proxy", "http_proxy") as proxy:
        server, client = await start()
        assert (await client.unary("hi", timeout=10)).value == "hi"
        assert proxy.asked == []
        # What gRPC does by itself.
        async with grpc.aio.insecure_channel(server.address) as bare:
            with pytest.raises(grpc.aio.AioRpcError):
                await Client(bare).unary("hi", timeout=10)
        assert proxy.lines[0].startswith(f"CONNECT {server.address} ")
        # And what whoever calls from outside may want.
        del proxy.asked[:]
        async with connect(server.address, direct=False, retry=False) as through:
            with pytest.raises(grpc.aio.AioRpcError):
                await Client(through).unary("hi", timeout=10)
        assert proxy.lines[0].startswith(f"CONNECT {server.address} ")
