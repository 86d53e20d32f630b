"""What the chart runs before an installation: a Redis or Weaviate of the team's that cannot be used is told with what to do."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import redis

from tests.processes import ROOT, free_port, running, valkey
from tests.weaviate import WeaviateServer

SCRIPT = ROOT / "deploy" / "helm" / "nesycd" / "files" / "preflight.py"


def preflight(**env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, SCRIPT], env={**os.environ, "PREFLIGHT_SECONDS": "0.1", **env}, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_a_redis_that_answers_passes_and_one_that_does_not_is_told_by_why(tmp_path: Path) -> None:
    broker = valkey(tmp_path)
    with running(broker):
        url = f"redis://{broker.address}/0"
        assert preflight(PREFLIGHT_REDIS_URL=url) == (0, "what the values name answers\n")
        client = redis.Redis.from_url(url)
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert "warning: Redis at" in preflight(PREFLIGHT_REDIS_URL=url)[1]
        client.config_set("requirepass", "right")
        status, said = preflight(PREFLIGHT_REDIS_URL=f"redis://:wrong@{broker.address}/0")
        assert (
            status == 1 and "refuses the password" in said and "redis.existingSecret" in said and "wrong@" not in said
        )
    status, said = preflight(PREFLIGHT_REDIS_URL=url)
    assert status == 1 and f"Redis at {broker.address} does not answer" in said and "redis.address" in said


def test_a_weaviate_needs_both_ports() -> None:
    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        env = {
            "PREFLIGHT_WEAVIATE_URL": f"http://127.0.0.1:{server.server_port}",
            "PREFLIGHT_WEAVIATE_GRPC_HOST": "",
            "PREFLIGHT_WEAVIATE_GRPC_PORT": str(server.server_port),
        }
        assert preflight(**env)[0] == 0
        status, said = preflight(**{**env, "PREFLIGHT_WEAVIATE_GRPC_PORT": str(free_port())})
        assert status == 1 and "weaviate.grpcPort" in said
        status, said = preflight(**{**env, "PREFLIGHT_WEAVIATE_URL": f"http://127.0.0.1:{free_port()}"})
        assert status == 1 and "is not ready" in said and "weaviate.url" in said
    finally:
        server.shutdown()
        server.server_close()


def test_a_weaviate_that_refuses_the_key_is_told(tmp_path: Path) -> None:
    server = WeaviateServer(tmp_path, api_key="right").start()
    try:
        env = {
            "PREFLIGHT_WEAVIATE_URL": f"{server.url}/",
            "PREFLIGHT_WEAVIATE_GRPC_HOST": "",
            "PREFLIGHT_WEAVIATE_GRPC_PORT": str(server.grpc_port),
        }
        assert preflight(**env, PREFLIGHT_WEAVIATE_API_KEY="right")[0] == 0
        for key, word in (("wrong", "refuses the key"), ("", "wants a key")):
            status, said = preflight(**env, PREFLIGHT_WEAVIATE_API_KEY=key)
            assert status == 1 and word in said and "weaviate.existingSecret" in said and "wrong" not in said
    finally:
        server.stop()
