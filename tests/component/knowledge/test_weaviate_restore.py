"""A backup of Weaviate is restored into another server, by the very commands of docs/operations.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import grpc
from nesycd.knowledge.v1 import KnowledgeServiceStub
from nesycd.knowledge.v1 import knowledge_pb2 as pb

from tests.processes import ROOT, running, service
from tests.weaviate import WeaviateServer

KEY = "a-key"


def documented(server: WeaviateServer) -> list[str]:
    """The commands of the page for the API, of backup and restore in turn, for a server on this machine and its file system."""
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page[page.index("### Restoring Weaviate") : page.index("## More room")]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    return [
        "\n".join(line for line in block.splitlines() if not re.match(r"kubectl|KEY=", line))
        .replace("localhost:8080", f"127.0.0.1:{server.http_port}")
        .replace("/s3", "/filesystem")
        for block in blocks
    ]


def succeed(commands: str) -> None:
    """Runs the commands, and the last of them, which asks for the state, until that is SUCCESS."""
    script, _, asking = commands.strip().rpartition("\n")
    subprocess.run(["bash", "-euc", script], check=True, env={"KEY": KEY, "PATH": "/usr/bin:/bin"})
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(
            ["bash", "-c", asking],
            check=True,
            capture_output=True,
            text=True,
            env={"KEY": KEY, "PATH": "/usr/bin:/bin"},
        )
        if '"SUCCESS"' in done.stdout:
            return
        assert "FAILED" not in done.stdout and time.monotonic() < deadline, done.stdout
        time.sleep(0.5)


def test_a_backup_is_restored_with_history_where_the_service_had_made_its_collections(tmp_path: Path) -> None:
    first = WeaviateServer(tmp_path / "first", api_key=KEY)
    second = WeaviateServer(tmp_path / "second", api_key=KEY)
    try:
        first.start()
        process = service("knowledge", tmp_path / "a", **first.settings())
        with running(process), grpc.insecure_channel(process.address) as channel:
            stub = KnowledgeServiceStub(channel)
            stub.CreateKnowledgeBase(pb.CreateKnowledgeBaseRequest(knowledge_base_id="kb"))
            request = pb.CreateEntryRequest(parent="knowledgeBases/kb", entry={"text": "Crabs have 10 legs."})
            entry = stub.CreateEntry(request).entry
            changed = pb.Entry(name=entry.name, text="Crabs have 8 legs.")
            stub.UpdateEntry(pb.UpdateEntryRequest(entry=changed, update_mask={"paths": ["text"]}))
            succeed(documented(first)[0])
        first.kill()
        second.start()
        process = service("knowledge", tmp_path / "b", **second.settings())
        with running(process):  # as an installation does
            pass
        shutil.copytree(tmp_path / "first" / "backups", tmp_path / "second" / "backups", dirs_exist_ok=True)
        succeed(documented(second)[1])
        with running(process), grpc.insecure_channel(process.address) as channel:
            stub = KnowledgeServiceStub(channel)
            assert stub.GetEntry(pb.GetEntryRequest(name=entry.name)).entry.text == "Crabs have 8 legs."
            found = stub.SearchEntries(pb.SearchEntriesRequest(parent="knowledgeBases/kb", query="crabs"))
            assert [result.entry.name for result in found.results] == [entry.name]
            history = stub.ListEntryRevisions(pb.ListEntryRevisionsRequest(parent=entry.name)).revisions
            assert len(history) == 2
    finally:
        first.kill()
        second.kill()
