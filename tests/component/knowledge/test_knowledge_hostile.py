"""Hostile messages with Weaviate as the store. tests/contract/test_hostile.py does the same with the embedded one."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from nesycd.knowledge.v1 import knowledge_pb2

from tests.contract.test_hostile import attack, make_knowledge, unharmed
from tests.processes import Process, service
from tests.weaviate import WeaviateServer

METHODS = knowledge_pb2.DESCRIPTOR.services_by_name["KnowledgeService"].methods


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service whose Weaviate nobody else uses: messages may remove any base."""
    folder = tmp_path_factory.mktemp("hostile")
    server = WeaviateServer(folder / "weaviate")
    one = service("knowledge", folder, compiled="false", log_level="warning", **server.settings())
    try:
        server.start()
        yield one.start()
    finally:
        one.kill()
        server.kill()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_hostile_message_gets_a_status_of_the_right_kind_from_either_store(
    method: MethodDescriptor, process: Process
) -> None:
    with grpc.insecure_channel(process.address) as channel:
        make_knowledge(channel)
        attack(channel, method, 25)
    unharmed(process, method)
