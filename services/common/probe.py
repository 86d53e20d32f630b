"""`python -m services.common.probe TEACHER NAME [SERVICE]`: asks a server of this machine for its health.

For the probes of Kubernetes where the server speaks TLS, which Kubernetes' own gRPC probes do not. The port and the TLS files are
those of the server's settings (`NESYCD_TEACHER_*`). NAME is one that stands in its certificate. SERVICE is the full name of a gRPC
service ("is it ready?"); without it the process is asked ("does it live?"). Ends with 0 where it serves.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.channel import DIRECT

_SECONDS = 5.0


def ask(server: str, name: str, service: str = "") -> str:
    """Asks once.

    Args:
        server: Prefix of the server's settings, such as TEACHER.
        name: A name that stands in its certificate.
        service: Full name of a gRPC service; empty: the process.

    Returns:
        "" where it serves, else what is wrong.
    """

    def setting(key: str) -> str:
        return os.environ.get(f"NESYCD_{server}_{key}", "")

    def content(key: str) -> bytes | None:
        return Path(setting(key)).read_bytes() if setting(key) else None

    address = f"localhost:{setting('PORT')}"
    if setting("TLS_CERT"):
        mine = (content("TLS_KEY"), content("TLS_CERT")) if setting("TLS_CLIENT_CA") else (None, None)
        credentials = grpc.ssl_channel_credentials(content("PEER_TLS_CA") or content("TLS_CERT"), *mine)
        channel = grpc.secure_channel(address, credentials, [DIRECT, ("grpc.ssl_target_name_override", name)])
    else:
        channel = grpc.insecure_channel(address, [DIRECT])
    with channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_SECONDS).status
        except grpc.RpcError as error:
            return f"{address} {service}: {error.code().name} {error.details()}"  # type: ignore[attr-defined]
    return "" if status == health_pb2.HealthCheckResponse.SERVING else f"{address} {service}: not serving"


if __name__ == "__main__":
    problem = ask(*sys.argv[1:4])
    if problem:
        sys.exit(problem)
