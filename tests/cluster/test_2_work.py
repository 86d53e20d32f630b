"""What the system is for: runs from inside and outside, over gRPC and Celery; and knowledge that people edit."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import yaml
from google.protobuf.field_mask_pb2 import FieldMask
from nesycd.knowledge.v1 import (
    ENTRY_KIND_FACT,
    CreateEntryRequest,
    CreateKnowledgeBaseRequest,
    Entry,
    KnowledgeServiceStub,
    UpdateEntryRequest,
)
from nesycd.student.v1 import AnswerRequest, AnswerResponse, Decoding, Retrieval, StudentServiceStub

from tests.cluster.kubernetes import ROOT, Cluster
from tests.cluster.work import BASE_MODEL, DATA, aliases, ended_well, wait


def test_helm_test_ends_well(installed: Cluster) -> None:
    done = installed.helm_test()
    print(done.output)
    assert "Phase:          Succeeded" in done.output and "ended well" in done.output


def test_a_grpc_client_outside_submits_a_run_and_watches_it(installed: Cluster) -> None:
    with installed.services("runs") as address:
        said = installed.python(
            "-m",
            "examples.clients.submit_and_wait",
            "--runs",
            address["runs"],
            "--data",
            DATA,
            "--base-model",
            BASE_MODEL,
        )
    print(said)
    assert "submitted runs/" in said and "ended well" in said


def test_a_run_is_submitted_with_celery_and_takes_data_from_the_artifact_volume(
    installed: Cluster, tmp_path: Path
) -> None:
    # As docs/install.md puts data there.
    runs = installed.pod("runs")
    folder = "/var/lib/nesycd/artifacts/data"
    installed.kubectl("exec", runs, "--", "mkdir", "-p", folder)
    for part, count in (("train", 4), ("test", 2)):
        rows = (ROOT / "examples" / "families" / f"{part}.jsonl").read_text().splitlines()[:count]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(rows) + "\n")
        installed.kubectl("cp", str(tmp_path / f"{part}.jsonl"), f"{runs}:{folder}/{part}.jsonl")
    spec = {
        "name": "from-celery",
        "data": {part: f"{folder}/{part}.jsonl" for part in ("train", "test")},
        "student": {"base_model": BASE_MODEL},
        "evaluate": {"conditions": ["general", "augmented"], "max_new_tokens": 48},
        "publish": {"alias": "production"},
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    with installed.forward(f"svc/{installed.release}-valkey", 6379) as address:
        broker = f"redis://:{installed.secret('redis-password')}@{address}/0"
        said = installed.python("examples/clients/submit_with_celery.py", broker, str(tmp_path / "spec.yaml"))
    name = said.split()[-1]
    assert name.startswith("runs/from-celery")
    run = wait(installed, name)
    ended_well(run)
    assert aliases(installed) == {"aliases/production": run.adapter}


def test_a_grpc_client_outside_calls_every_service(installed: Cluster) -> None:
    with installed.services() as addresses:
        options = [part for name, address in addresses.items() for part in (f"--{name}", address)]
        said = installed.python("examples/clients/each_service.py", *options)
    print(said)
    for service in ("teacher", "knowledge", "extraction", "student", "runs", "error"):
        assert f"{service}: " in said


def test_an_edit_of_the_knowledge_changes_the_answer_without_training(installed: Cluster) -> None:
    question = "How many legs does a zorblat have?"
    with installed.services("knowledge", "student") as addresses:
        with (
            grpc.insecure_channel(addresses["knowledge"]) as to_knowledge,
            grpc.insecure_channel(addresses["student"]) as to_student,
        ):
            knowledge = KnowledgeServiceStub(to_knowledge)
            base = knowledge.CreateKnowledgeBase(
                CreateKnowledgeBaseRequest(knowledge_base_id="edited"), timeout=60
            ).knowledge_base.name
            request = CreateEntryRequest(parent=base, entry=Entry(kind=ENTRY_KIND_FACT, text="A zorblat has 9 legs."))
            entry = knowledge.CreateEntry(request, timeout=60).entry

            def ask() -> AnswerResponse:
                request = AnswerRequest(
                    question=question,
                    adapter="base",
                    retrieval=Retrieval(knowledge_base=base),
                    decoding=Decoding(max_new_tokens=24),
                )
                answer = StudentServiceStub(to_student).Answer(request, timeout=180)
                print(json.dumps({"read": [e.text for e in answer.entries], "answered": answer.text}))
                return answer

            before = ask()
            edit = Entry(name=entry.name, etag=entry.etag, text="A zorblat has 12 legs.")
            mask = FieldMask(paths=["text"])
            knowledge.UpdateEntry(UpdateEntryRequest(entry=edit, update_mask=mask, author="tests"), timeout=60)
            after = ask()
    assert [e.text for e in before.entries] == ["A zorblat has 9 legs."] and "9" in before.text
    assert [e.text for e in after.entries] == ["A zorblat has 12 legs."] and "12" in after.text
