"""Looks whether the Redis and the Weaviate that the values name answer; ends with one sentence for each that does not."""

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import redis


def redis_problem(url: str) -> str:
    """Why this Redis cannot be used; "" where it can."""
    where = urlsplit(url).netloc.rpartition("@")[2]
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5)
        client.ping()
    except redis.exceptions.AuthenticationError as error:
        return f"Redis at {where} refuses the password ({error}): check redis.username, redis.existingSecret and redis.passwordKey"
    except redis.exceptions.RedisError as error:
        return f"Redis at {where} does not answer ({error}): check redis.address, redis.tls and that it is reached from this namespace"
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.exceptions.RedisError:
        return ""  # managed ones do not tell
    if policy != "noeviction":
        print(
            f"warning: Redis at {where} throws data away when memory ends ({policy}): set maxmemory-policy noeviction"
        )
    return ""


def weaviate_problem(url: str, key: str, grpc_host: str, grpc_port: str) -> str:
    """Why this Weaviate cannot be used; "" where it can."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        # Whether it is ready it tells everybody; what it is, only those who may read.
        for path in ("/v1/.well-known/ready", "/v1/meta"):
            request = urllib.request.Request(url.rstrip("/") + path, headers=headers)  # noqa: S310 - the schema allows http(s) only
            with urllib.request.urlopen(request, timeout=5):  # noqa: S310
                pass
    except (urllib.error.URLError, OSError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
            said = "refuses the key" if key else "wants a key"
            return f"Weaviate at {url} {said} ({error}): check weaviate.existingSecret and weaviate.apiKeyKey"
        return (
            f"Weaviate at {url} is not ready ({error}): check weaviate.url and that it is reached from this namespace"
        )
    host = grpc_host or urlsplit(url).hostname or ""
    try:
        socket.create_connection((host, int(grpc_port)), timeout=5).close()
    except OSError as error:
        return f"Weaviate's gRPC port {host}:{grpc_port} does not answer ({error}): check weaviate.grpcHost and weaviate.grpcPort"
    return ""


def problems() -> list[str]:
    """All that is wrong now."""
    found = []
    if url := os.environ.get("PREFLIGHT_REDIS_URL"):
        found.append(redis_problem(url))
    if url := os.environ.get("PREFLIGHT_WEAVIATE_URL"):
        key = os.environ.get("PREFLIGHT_WEAVIATE_API_KEY", "")
        grpc = os.environ["PREFLIGHT_WEAVIATE_GRPC_HOST"], os.environ["PREFLIGHT_WEAVIATE_GRPC_PORT"]
        found.append(weaviate_problem(url, key, *grpc))
    return [problem for problem in found if problem]


until = time.monotonic() + float(os.environ["PREFLIGHT_SECONDS"])
while found := problems():
    if time.monotonic() > until:
        sys.exit("\n".join(found))
    time.sleep(2)
print("what the values name answers")
