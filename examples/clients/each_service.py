"""A gRPC client of each service, with nothing but grpcio and the contracts (`pip install ./protos`).

    python examples/clients/each_service.py            # the ports of `nesycd up`

Every service also answers server reflection, so grpcurl works without the .proto files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import grpc
import yaml
from google.protobuf import json_format, struct_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from nesycd.extraction.v1 import ExtractionOptions, ExtractionServiceStub, ExtractKnowledgeRequest, HardCase
from nesycd.knowledge.v1 import (
    ENTRY_KIND_FACT,
    CreateEntryRequest,
    CreateKnowledgeBaseRequest,
    DeleteKnowledgeBaseRequest,
    Entry,
    GetKnowledgeBaseRequest,
    KnowledgeServiceStub,
    SearchEntriesRequest,
    Source,
)
from nesycd.runs.v1 import CreateRunRequest, ListRunsRequest, RunServiceStub
from nesycd.student.v1 import AnswerRequest, AnswerStreamRequest, StudentServiceStub
from nesycd.teacher.v1 import GenerateRequest, GetUsageRequest, Message, Sampling, TeacherServiceStub

SPEC = Path(__file__).resolve().parents[1] / "families" / "demo.yaml"
QUESTION = "How many legs do 3 scorpions have?"


def teacher(channel: grpc.Channel) -> None:
    """Asks the teacher twice: the second answer comes from the store and costs nothing."""
    stub = TeacherServiceStub(channel)
    request = GenerateRequest(
        messages=[Message(role="user", content=f"Task: rationale\nAnswer the question.\n\nQuestion:\n{QUESTION}")],
        sampling=Sampling(temperature=0, max_tokens=200),
        caller="example",
    )
    for _ in range(2):
        answer = stub.Generate(request, timeout=60)
        print(f"teacher: {answer.text!r} cached={answer.cached}")
    total = stub.GetUsage(GetUsageRequest(caller="example"), timeout=10).total
    print(f"teacher: {total.prompt_tokens} + {total.completion_tokens} tokens, ${total.cost_usd:.6f}")


def knowledge(channel: grpc.Channel) -> str:
    """Makes a knowledge base, adds an entry and finds it."""
    stub = KnowledgeServiceStub(channel)
    try:
        stub.CreateKnowledgeBase(CreateKnowledgeBaseRequest(knowledge_base_id="example"), timeout=10)
    except grpc.RpcError as error:  # it is there from an earlier try
        if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise
    entry = stub.CreateEntry(
        CreateEntryRequest(
            parent="knowledgeBases/example",
            entry=Entry(kind=ENTRY_KIND_FACT, text="Scorpions have 8 legs.", sources=[Source(author="example")]),
            merge=True,
        ),
        timeout=10,
    ).entry
    found = stub.SearchEntries(
        SearchEntriesRequest(parent="knowledgeBases/example", query=QUESTION, top_k=1), timeout=30
    ).results
    print(f"knowledge: {found[0].entry.text!r} score={found[0].score:.2f}")
    return entry.name


def extraction(channel: grpc.Channel) -> None:
    """Turns a wrong answer into entries."""
    response = ExtractionServiceStub(channel).ExtractKnowledge(
        ExtractKnowledgeRequest(
            hard_case=HardCase(
                case_id="example-1",
                task="legs",
                question="How many legs do 2 woodlice have?",
                gold_answer="28",
                student_response="Woodlice have 6 legs. 2 x 6 = 12. Therefore, the answer is 12.",
            ),
            options=ExtractionOptions(knowledge_base="knowledgeBases/example"),
        ),
        timeout=60,
    )
    for entry in response.entries:
        print(f"extraction: {entry.text!r} from {len(entry.sources)} case(s)")


def student(channel: grpc.Channel) -> None:
    """Asks the student, at once and piece by piece."""
    stub = StudentServiceStub(channel)
    answer = stub.Answer(AnswerRequest(question=QUESTION), timeout=60)
    print(f"student: {answer.answer!r} by {answer.adapter}, read {[e.text for e in answer.entries]}")
    for event in stub.AnswerStream(AnswerStreamRequest(request=AnswerRequest(question=QUESTION)), timeout=60):
        if event.HasField("chunk"):
            print(event.chunk, end="", flush=True)
    print()


def runs(channel: grpc.Channel) -> None:
    """Checks a run spec without submitting it, and lists the runs."""
    stub = RunServiceStub(channel)
    spec = yaml.safe_load(SPEC.read_text())
    spec["data"] = {key: str(SPEC.parent / value) for key, value in spec["data"].items()}
    checked = stub.CreateRun(
        CreateRunRequest(spec=json_format.ParseDict(spec, struct_pb2.Struct()), validate_only=True), timeout=30
    )
    print(f"runs: the spec is valid, the recipe is {checked.run.spec['training']['recipe']}")
    for run in stub.ListRuns(ListRunsRequest(page_size=5), timeout=10).runs:
        print(f"runs: {run.name} {dict(run.accuracy)}")


def errors(channel: grpc.Channel) -> None:
    """What an error carries besides its code: google.rpc details (AIP-193)."""
    try:
        KnowledgeServiceStub(channel).GetKnowledgeBase(GetKnowledgeBaseRequest(name="knowledgeBases/none"), timeout=10)
    except grpc.RpcError as error:
        info = error_details_pb2.ErrorInfo()
        for detail in rpc_status.from_call(error).details:
            if detail.Unpack(info):
                print(f"error: {error.code().name} {info.reason}: {error.details()}")


def main() -> None:
    """Calls each service in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for service, port in {
        "teacher": 50061,
        "knowledge": 50062,
        "extraction": 50063,
        "student": 50064,
        "runs": 50065,
    }.items():
        parser.add_argument(f"--{service}", default=f"127.0.0.1:{port}", metavar="HOST:PORT")
    addresses = vars(parser.parse_args())
    # Where https_proxy is set gRPC would ask that proxy for them.
    direct = [("grpc.enable_http_proxy", 0)]
    channels = {service: grpc.insecure_channel(address, direct) for service, address in addresses.items()}
    teacher(channels["teacher"])
    knowledge(channels["knowledge"])
    extraction(channels["extraction"])
    student(channels["student"])
    runs(channels["runs"])
    errors(channels["knowledge"])
    KnowledgeServiceStub(channels["knowledge"]).DeleteKnowledgeBase(
        DeleteKnowledgeBaseRequest(name="knowledgeBases/example", force=True), timeout=10
    )


if __name__ == "__main__":
    main()
