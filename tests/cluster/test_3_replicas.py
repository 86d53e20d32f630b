"""Two pods of every stateless service are as one, and calls are spread over them."""

from __future__ import annotations

import re

import grpc
from nesycd.knowledge.v1 import (
    ENTRY_KIND_FACT,
    CreateEntryRequest,
    Entry,
    GetEntryRequest,
    KnowledgeServiceStub,
)
from nesycd.runs.v1 import ListRunsRequest, RunServiceStub
from nesycd.student.v1 import AnswerRequest, Decoding, StudentServiceStub
from nesycd.teacher.v1 import GenerateRequest, Message, Sampling, TeacherServiceStub

from tests.cluster.kubernetes import PORTS, Cluster
from tests.cluster.load_pod import Load
from tests.cluster.work import KEPT, aliases, teacher_calls


def each_pod(cluster: Cluster, component: str) -> list[str]:
    """The names of a component's pods, for port-forwards to each."""
    names = [f"pod/{pod['metadata']['name']}" for pod in cluster.pods(component)]
    assert len(names) == 2
    return names


def test_what_one_teacher_was_asked_the_other_knows(installed: Cluster) -> None:
    question = "How many legs do 7 woodlice have?"
    request = GenerateRequest(
        messages=[Message(role="user", content=f"Task: rationale\nAnswer the question.\n\nQuestion:\n{question}")],
        sampling=Sampling(temperature=0, max_tokens=200),
    )
    before = teacher_calls(installed)["answered"]
    answers = []
    for pod in each_pod(installed, "teacher"):
        with installed.forward(pod, PORTS["teacher"]) as address, grpc.insecure_channel(address) as channel:
            answers.append(TeacherServiceStub(channel).Generate(request, timeout=60))
    assert [answer.cached for answer in answers] == [False, True]
    assert answers[0].text == answers[1].text
    assert teacher_calls(installed)["answered"] == before + 1


def test_what_was_written_through_one_knowledge_store_is_read_through_the_other(installed: Cluster) -> None:
    first, second = each_pod(installed, "knowledge")
    with installed.forward(first, PORTS["knowledge"]) as address, grpc.insecure_channel(address) as channel:
        entry = Entry(kind=ENTRY_KIND_FACT, text="Woodlice have 14 legs.")
        made = KnowledgeServiceStub(channel).CreateEntry(CreateEntryRequest(parent=KEPT, entry=entry), timeout=60).entry
    with installed.forward(second, PORTS["knowledge"]) as address, grpc.insecure_channel(address) as channel:
        read = KnowledgeServiceStub(channel).GetEntry(GetEntryRequest(name=made.name), timeout=60).entry
    assert read == made


def test_both_runs_services_know_all_runs(installed: Cluster) -> None:
    known = []
    for pod in each_pod(installed, "runs"):
        with installed.forward(pod, PORTS["runs"]) as address, grpc.insecure_channel(address) as channel:
            runs = RunServiceStub(channel).ListRuns(ListRunsRequest(page_size=100), timeout=60).runs
            known.append([run.name for run in runs])
    assert known[0] == known[1]


def test_both_students_serve_the_adapter_that_a_run_published(installed: Cluster) -> None:
    published = aliases(installed)["aliases/production"]
    request = AnswerRequest(question="How many legs do 3 crabs have?", decoding=Decoding(max_new_tokens=4))
    for pod in each_pod(installed, "student"):
        with installed.forward(pod, PORTS["student"]) as address, grpc.insecure_channel(address) as channel:
            assert StudentServiceStub(channel).Answer(request, timeout=180).adapter == published


def calls_of(cluster: Cluster, pod: str) -> float:
    """How many calls a pod has served, by its metrics; those of probes do not count."""
    program = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
    text = cluster.kubectl("exec", pod, "--", "python", "-c", program)
    found = re.findall(r'^nesycd_grpc_server_calls_total{.*method="/?nesycd.*} (\S+)$', text, re.M)
    return sum(map(float, found))


def test_a_client_spreads_its_calls_over_the_pods_of_a_name(installed: Cluster) -> None:
    names = ("teacher", "knowledge", "student", "runs")
    pods = {(name, pod) for name in names for pod in each_pod(installed, name)}
    before = {(name, pod): calls_of(installed, pod) for name, pod in pods}
    with Load(installed) as load:
        load.calls(200)
    result = load.result()
    served = {(name, pod): calls_of(installed, pod) - before[name, pod] for name, pod in pods}
    print(result, served)
    assert not result["failures"]
    for name in names:
        shares = [count for (of, _), count in served.items() if of == name]
        assert min(shares) > 0.3 * sum(shares), (name, shares)
