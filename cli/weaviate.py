"""The Weaviate server as a process on this machine: where its binary is, and how it is started."""

from __future__ import annotations

import contextlib
import os
import shutil
import urllib.request
from collections.abc import Mapping
from pathlib import Path

VERSION = "1.39.0"
# One process listens on all of these; of two servers on one machine each needs its own.
PORTS = ("http", "grpc", "raft", "raft_rpc", "gossip", "data")


def find_server() -> Path | None:
    """The server that `make weaviate` built, else one on the PATH, else None."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "nesycd" / "bin" / f"weaviate-server-{VERSION}"
    if os.access(built, os.X_OK):
        return built
    found = shutil.which("weaviate-server")
    return Path(found) if found else None


def command(server: Path, host: str, port: int) -> list[str]:
    """What to run.

    Args:
        server: The binary.
        host: Address of its HTTP listener.
        port: Port of its HTTP listener.
    """
    return [str(server), "--host", host, "--port", str(port), "--scheme", "http"]


def environment(folder: Path, ports: Mapping[str, int], *, api_key: str = "", memory: str = "1GiB") -> dict[str, str]:
    """The server's settings, which it takes from its environment.

    Args:
        folder: Its data; backups lie beside them in `backups`.
        ports: Each of `PORTS`; may be others the next time.
        api_key: Callers must send it; empty: anybody may call. The ports grpc and data listen on all of the machine's
            addresses whatever the settings say, so only tests do without.
        memory: Size that its heap is kept below, as Go writes it.
    """
    if api_key:
        access = {
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": api_key,
            "AUTHENTICATION_APIKEY_USERS": "nesycd",
            # What nodes of a cluster say to each other; there is one node, so any secret will do.
            "CLUSTER_BASIC_AUTH_USERNAME": "nesycd",
            "CLUSTER_BASIC_AUTH_PASSWORD": api_key,
        }
    else:
        access = {"AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true"}
    return {
        **access,
        "PERSISTENCE_DATA_PATH": str(folder / "data"),
        "ENABLE_MODULES": "backup-filesystem",
        "BACKUP_FILESYSTEM_PATH": str(folder / "backups"),
        "DEFAULT_VECTORIZER_MODULE": "none",
        # Properties are those that the schema has; a misspelt one must not become a new one.
        "AUTOSCHEMA_ENABLED": "false",
        "GRPC_PORT": str(ports["grpc"]),
        "RAFT_PORT": str(ports["raft"]),
        "RAFT_INTERNAL_RPC_PORT": str(ports["raft_rpc"]),
        "CLUSTER_GOSSIP_BIND_PORT": str(ports["gossip"]),
        "CLUSTER_DATA_BIND_PORT": str(ports["data"]),
        "CLUSTER_HOSTNAME": "node1",
        # Not CLUSTER_IN_LOCALHOST, which takes the port after RAFT_PORT whatever RAFT_INTERNAL_RPC_PORT says.
        "CLUSTER_BIND_ADDR": "127.0.0.1",
        "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
        # A node alone need not wait for others before it makes itself the leader: ready in 3 s instead of 8.
        "RAFT_TIMEOUTS_MULTIPLIER": "1",
        "DISABLE_TELEMETRY": "true",
        "GO_PROFILING_DISABLE": "true",
        "GOMEMLIMIT": memory,
        "LOG_LEVEL": "warning",
    }


def ready(address: str) -> bool:
    """Whether the server at host:port says that it is ready."""
    # OSError is also what urllib raises for a status other than 200.
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://{address}/v1/.well-known/ready", timeout=2),
    ):
        return True
    return False
