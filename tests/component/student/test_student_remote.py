"""The student written by a server: the same contract, over gRPC, with servers that speak the real wire formats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from nesycd.student.v1 import (
    ANSWER_MODE_CASCADE,
    ANSWER_MODE_CHAIN_OF_THOUGHT,
    Alias,
    AnswerRequest,
    AnswerStreamRequest,
    Decoding,
    Demonstration,
    LoadAdapterRequest,
    Retrieval,
    SetAliasRequest,
    StudentServiceStub,
    UnloadAdapterRequest,
)

from method.prompts import TRIGGER, cascade_prompt, student_prompt
from method.prompts import Demonstration as Shown
from services.common.server import Server, StartError
from services.student.__main__ import assemble
from services.student.servicer import _MODES
from services.student.settings import Settings
from tests.component.student.conftest import Knowledge, KnowledgeServer
from tests.component.student.remote_servers import Misbehaviour, OpenAiServer, RemoteServer, TgiServer, Words
from tests.component.student.test_student_methods import ALWAYS_SURE, DEMO, MODES, NEVER_SURE, SHOWN
from tests.component.student.test_student_process import V1, V2, ask, batch, fails
from tests.processes import service

KEY = "sk-a-key-that-nobody-may-see"
CODE = grpc.StatusCode


@pytest.fixture(scope="session")
def words(model: Path) -> Words:
    return Words(model)


@pytest.fixture(params=["vllm", "sglang", "llamacpp", "tgi"])
async def remote(request: pytest.FixtureRequest, words: Words) -> AsyncIterator[RemoteServer]:
    made: RemoteServer = TgiServer(words) if request.param == "tgi" else OpenAiServer(words, kind=request.param)
    async with made.running():
        yield made


@pytest.fixture
async def vllm(words: Words) -> AsyncIterator[OpenAiServer]:
    async with OpenAiServer(words).running() as made:
        yield made  # type: ignore[misc]


@asynccontextmanager
async def student(
    remote: RemoteServer, artifacts: Path, knowledge: KnowledgeServer | None, folder: Path, **settings: Any
) -> AsyncIterator[StudentServiceStub]:
    """The student service, with its words from `remote`."""
    chosen: dict[str, Any] = {
        "port": 0,
        "base_model": "tiny",
        "engine": "tgi" if isinstance(remote, TgiServer) else "openai",
        "engine_url": remote.url,
        "engine_api_key": KEY,
        "engine_context_length": 1024 if getattr(remote, "kind", "") == "llamacpp" else 0,
        "engine_attempts": 3,
        "artifacts_url": artifacts.as_uri(),
        "knowledge_address": knowledge.address if knowledge else "",
        "registry_url": (folder / "registry").as_uri(),
        "state_dir": folder / "state",
        "max_new_tokens": 24,
        "max_batch": 8,
        "batch_idle_seconds": 0.3,
        **settings,
    }
    made, ready, close = assemble(Settings(**chosen))
    async with (
        Server(Settings(**chosen), [made], ready=ready, close=close) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield StudentServiceStub(channel)


@pytest.fixture(scope="session")
def artifacts(artifacts: Path, model: Path) -> Path:
    """With the base model's tokenizer alone: its weights are the server's matter."""
    folder = artifacts / "models" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    return artifacts


def requests() -> list[AnswerRequest]:
    """Each mode, with and without demonstrations, knowledge and a gate, greedily."""
    retrievals = [None, *(Retrieval(knowledge_base=DEMO, top_k=2, gate=gate) for gate in (0, ALWAYS_SURE, NEVER_SURE))]
    return [
        ask(number, mode=mode, retrieval=retrieval, demonstrations=SHOWN[: number % 3])
        for number, (mode, retrieval) in enumerate((m, r) for m in MODES for r in retrievals)
    ]


async def test_every_mode_is_answered_as_by_the_engine_of_this_process(
    remote: RemoteServer, stub: StudentServiceStub, artifacts: Path, knowledge_server: KnowledgeServer, tmp_path: Path
) -> None:
    local = await batch(stub, requests())
    async with student(remote, artifacts, knowledge_server, tmp_path) as there:
        rows = await batch(there, requests())
        for number, request in enumerate(requests()):
            wanted, answer = local[f"r{number}"].response, rows[f"r{number}"].response
            # Servers count the token that ends a text, and a text that is cut is counted by the tokenizer; of a
            # cascade's tokens that one is missing for its second step.
            assert abs(answer.completion_tokens - wanted.completion_tokens) <= 3, request
            if request.mode == ANSWER_MODE_CASCADE and answer.text != wanted.text:
                assert wanted.text[:-1] == answer.text, request
                continue
            assert answer.text == wanted.text, request
            assert answer.confidence == pytest.approx(wanted.confidence, abs=1e-4)
            for each in (answer, wanted):
                each.confidence, each.completion_tokens = 0, 0
            assert answer == wanted
        for request in requests()[::3]:
            alone = await there.Answer(request)
            events = [event async for event in there.AnswerStream(AnswerStreamRequest(request=request))]
            assert "".join(event.chunk for event in events[:-1]) == alone.text
            assert events[-1].complete == alone
    assert set(remote.keys) == {f"Bearer {KEY}"}
    assert remote.most > 4, "rows of a batch are asked at the same time"


async def test_the_prompt_on_the_wire_is_the_methods_byte_by_byte(
    remote: RemoteServer, artifacts: Path, knowledge_server: KnowledgeServer, knowledge: Knowledge, tmp_path: Path
) -> None:
    knowledge.texts[0] = 'Crabs: "10" legs\\ – ten,\tnot 9…  日本 é'
    remote.says = lambda prompt: f"Ten legs each. {TRIGGER} 30." if not prompt.endswith(TRIGGER) else " 30."
    shown = [Demonstration(question="2 ants?\n", rationale="Six each.", answer="12")]
    async with student(remote, artifacts, knowledge_server, tmp_path) as there:
        for mode in MODES:
            remote.asked.clear()
            await there.Answer(
                AnswerRequest(
                    question=' How many legs have 3 "crabs"? é\u2028', mode=mode, task_description="Count.\n",
                    retrieval=Retrieval(knowledge_base=DEMO, top_k=2), demonstrations=shown,
                    decoding=Decoding(max_new_tokens=160),
                )
            )  # fmt: skip
            prompt = student_prompt(
                ' How many legs have 3 "crabs"? é\u2028', entries=knowledge.texts, mode=_MODES[mode],
                demonstrations=[Shown("2 ants?\n", "Six each.", "12")], task_description="Count.\n",
            )  # fmt: skip
            wanted = [prompt]
            if mode == ANSWER_MODE_CASCADE:
                wanted.append(cascade_prompt(prompt, "Ten legs each."))
            assert [asked.get("prompt", asked.get("inputs")) for asked in remote.asked] == wanted


async def test_a_text_ends_where_the_engine_of_this_process_ends_it_and_the_server_stops(
    remote: RemoteServer, artifacts: Path, tmp_path: Path
) -> None:
    long = "Question: and so on? " * 100
    remote.says = lambda _: f"\n So,\n{TRIGGER}\n5.\n{long}"
    remote.always = Misbehaviour(wait=0.002)
    wish = Decoding(max_new_tokens=500)
    async with student(remote, artifacts, None, tmp_path) as there:
        answer = await there.Answer(ask(mode=ANSWER_MODE_CHAIN_OF_THOUGHT, decoding=wish))
        assert (answer.rationale, answer.answer, answer.truncated) == ("So,", "5", False)
        assert answer.text == f"So,\n{TRIGGER}\n5."
        assert 0 < answer.completion_tokens < 60
        remote.says = lambda _: f"\n\n five\n{long}"
        answer = await there.Answer(ask(mode=2, decoding=wish))
        assert (answer.answer, answer.text, answer.truncated) == ("five", "five", False)
        remote.says = lambda prompt: (
            f" 2 + 3 Therefore{'' if prompt.endswith(TRIGGER) else f' or {TRIGGER} 6.'}\n{long}"
        )
        events = [
            event
            async for event in there.AnswerStream(AnswerStreamRequest(request=ask(mode=5, decoding=wish)))
        ]  # fmt: skip
        answer = events[-1].complete
        assert answer.text == f"2 + 3 Therefore or {TRIGGER} 2 + 3 Therefore"
        assert "".join(event.chunk for event in events[:-1]) == answer.text
        remote.says = lambda _: "no end " * 100
        assert (await there.Answer(ask())).truncated
        for _ in range(1000):
            if remote.gone >= 2:
                break
            await asyncio.sleep(0.02)
        assert remote.gone >= 2, "the server is told that nobody reads on"


async def test_what_is_asked_of_the_server_is_what_the_caller_asks(
    remote: RemoteServer, artifacts: Path, knowledge_server: KnowledgeServer, tmp_path: Path
) -> None:
    wish = Decoding(temperature=0.5, top_p=0.9, top_k=7, seed=-3, max_new_tokens=9)
    async with student(remote, artifacts, knowledge_server, tmp_path) as there:
        await there.Answer(ask(decoding=wish))
        await there.Answer(ask(decoding=Decoding(temperature=2)))
        await there.Answer(ask(retrieval=Retrieval(knowledge_base=DEMO, gate=ALWAYS_SURE), decoding=wish))
    sampled, all_tokens, gate = (asked.get("parameters", asked) for asked in remote.asked[:3])
    if isinstance(remote, TgiServer):
        assert {k: v for k, v in sampled.items() if v is not None} == {
            "details": True, "do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 2**63 - 3,
            "max_new_tokens": 9, "return_full_text": False,
        }  # fmt: skip
        assert {"top_p", "top_k"} & {k for k, v in all_tokens.items() if v is not None} == set()
        assert gate["do_sample"] is False and gate.get("temperature") is None
        return
    assert sampled == {
        "model": "tiny-student", "prompt": sampled["prompt"], "max_tokens": 9, "temperature": 0.5, "top_p": 0.9,
        "top_k": 7, "seed": 2**31 - 4, "stream": True, "stream_options": {"include_usage": True}, "min_p": 0.0,
        "repetition_penalty": 1.0,
    }  # fmt: skip
    assert (all_tokens["top_p"], all_tokens["top_k"]) == (1.0, -1)
    assert (gate["temperature"], gate["logprobs"]) == (0, 1)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_the_server_loads_and_forgets_adapters_and_loads_them_again_after_its_restart(
    kind: str, words: Words, stub: StudentServiceStub, artifacts: Path, tmp_path: Path
) -> None:
    request = ask(adapter="aliases/production")
    await stub.LoadAdapter(LoadAdapterRequest(adapter=V1))
    wanted = (await stub.Answer(ask(adapter=V1))).text
    alias = SetAliasRequest(alias=Alias(name="aliases/production", adapter=V1))
    async with OpenAiServer(words, kind=kind).running() as remote:
        assert isinstance(remote, OpenAiServer)
        async with student(remote, artifacts, None, tmp_path) as there:
            loaded = await there.LoadAdapter(LoadAdapterRequest(adapter=V1))
            assert loaded.adapter.name == V1 and loaded.adapter.sha256
            assert remote.adapters == {V1: str(artifacts / "adapters/demo/1")}
            await there.SetAlias(alias)
            assert (await there.Answer(request)).text == wanted
            assert remote.asked[-1]["model"] == (f"tiny-student:{V1}" if kind == "sglang" else V1)
            assert (await there.Answer(ask(adapter="base"))).text != wanted
            remote.adapters.clear()  # as by a restart
            remote.paths.clear()
            rows = await batch(there, [request] * 6)
            assert {row.response.text for row in rows.values()} == {wanted}
            assert len(remote.paths) == 1, "of many that miss it, one loads it"
        async with student(remote, artifacts, None, tmp_path) as there:  # ours restarts
            assert (await there.Answer(request)).text == wanted
            await there.SetAlias(SetAliasRequest(alias=Alias(name="aliases/production")))
            await there.UnloadAdapter(UnloadAdapterRequest(adapter=V1))
            assert remote.adapters == {}


async def test_a_server_that_loads_no_adapters_has_them_from_its_start(
    words: Words, stub: StudentServiceStub, artifacts: Path, tmp_path: Path
) -> None:
    await stub.LoadAdapter(LoadAdapterRequest(adapter=V1))
    wanted = (await stub.Answer(ask(adapter=V1))).text
    given = {"demo": str(artifacts / "adapters/demo/1")}
    vllm = OpenAiServer(words, loads=False)
    vllm.adapters = dict(given)
    for remote in (vllm, TgiServer(words, given)):
        models = {V1: "demo", V2: "typo"}
        async with remote.running(), student(remote, artifacts, None, tmp_path, engine_models=models) as there:
            await there.LoadAdapter(LoadAdapterRequest(adapter=V1))
            assert (await there.Answer(ask(adapter=V1))).text == wanted
            assert (await there.Answer(ask(adapter="base"))).text != wanted
            assert await _refusal(there.LoadAdapter(LoadAdapterRequest(adapter=V2)), "ADAPTER_NOT_ON_ENGINE", "typo")
            await there.UnloadAdapter(UnloadAdapterRequest(adapter=V1))
        async with remote.running(), student(remote, artifacts, None, tmp_path) as there:
            said = await _refusal(there.LoadAdapter(LoadAdapterRequest(adapter=V1)), "ADAPTER_NOT_ON_ENGINE", "ENGINE_MODELS")  # fmt: skip
            assert "--lora-adapters" in said or "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in said


async def test_an_adapter_that_the_server_cannot_load_is_refused_with_what_it_says(
    vllm: OpenAiServer, artifacts: Path, tmp_path: Path
) -> None:
    elsewhere = {"engine_artifacts": "/nowhere/artifacts"}
    async with student(vllm, artifacts, None, tmp_path, **elsewhere) as there:
        said = await _refusal(there.LoadAdapter(LoadAdapterRequest(adapter=V1)), "ADAPTER_NOT_ON_ENGINE", "")
        assert "No adapter found for /nowhere/artifacts/adapters/demo/1" in said
    assert vllm.paths == ["/nowhere/artifacts/adapters/demo/1"]


async def _refusal(call: Any, reason: str, says: str) -> str:
    """The message of a call that must fail with FAILED_PRECONDITION."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), says in caught.value.details()) == (CODE.FAILED_PRECONDITION, True), caught.value
    assert reason in str(caught.value.trailing_metadata())
    return str(caught.value.details())


OVERLOADED = Misbehaviour(status=429, headers={"Retry-After": "0.05"}, body={"error": "Model is overloaded", "error_type": "overloaded"})  # fmt: skip
LATER = Misbehaviour(status=429, headers={"Retry-After": "120"}, body={"error": {"message": "slow down", "code": 429}})
FAILED = Misbehaviour(
    status=500, body={"error": {"message": "What is number 0? made it fail", "type": "InternalServerError"}}
)
STARTING = Misbehaviour(status=503, body={"error": "unhealthy", "error_type": "healthcheck"})
CUT, ENDED = Misbehaviour(cut_after=4), Misbehaviour(end_after=4)
ALWAYS_WRONG = [
    Misbehaviour(event=b'{"choices": [{"te'),
    Misbehaviour(event={"choices": [{"index": 0}], "token": None}),
    Misbehaviour(event={"choices": [{"text": 5}], "token": {"text": 5, "logprob": "x"}}),
    Misbehaviour(event={"object": "x"}),
    Misbehaviour(event=[1, 2]),
    Misbehaviour(event={"error": {"message": "What is number 0?", "code": 500}, "error_type": "generation"}),
    Misbehaviour(raw=b"<html>What is number 0?</html>", content_type="text/html"),
    Misbehaviour(raw=b"data: " + b"x" * 10_000_000, content_type="text/event-stream"),
]


@pytest.mark.parametrize("passing", [OVERLOADED, STARTING, CUT, ENDED], ids=["429", "503", "cut", "ended"])
async def test_what_passes_is_tried_again_and_what_lasts_is_unavailable(
    remote: RemoteServer, passing: Misbehaviour, artifacts: Path, tmp_path: Path
) -> None:
    async with student(remote, artifacts, None, tmp_path) as there:
        wanted = await there.Answer(ask())
        remote.next.extend([passing, passing])
        assert await there.Answer(ask()) == wanted
        asked = len(remote.asked)
        remote.always = passing
        code, reason, detail = await fails(there.Answer(ask()))
        assert (code, reason) == (CODE.UNAVAILABLE, "ENGINE_UNAVAILABLE")
        assert detail.retry_delay.ToSeconds() >= 1
        assert len(remote.asked) == asked + 3
        if passing.cut_after or passing.end_after:
            events = []
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for event in there.AnswerStream(AnswerStreamRequest(request=ask())):
                    events.append(event)
            assert caught.value.code() == CODE.UNAVAILABLE
            assert wanted.text.startswith("".join(event.chunk for event in events)) and events
            assert len(remote.asked) == asked + 4, "what was passed on cannot be taken back: no second try"


async def test_a_long_wait_is_the_callers_and_a_failure_is_not_asked_again(
    remote: RemoteServer, artifacts: Path, tmp_path: Path
) -> None:
    async with student(remote, artifacts, None, tmp_path) as there:
        remote.next.append(LATER)
        code, _, detail = await fails(there.Answer(ask()))
        assert (code, detail.retry_delay.ToSeconds()) == (CODE.UNAVAILABLE, 120)
        for wrong in [FAILED, *ALWAYS_WRONG]:
            remote.asked.clear()
            remote.next.append(wrong)
            try:
                raise AssertionError(f"{wrong} became {await there.Answer(ask())}")
            except grpc.aio.AioRpcError as error:
                assert error.code() == CODE.UNAVAILABLE and "ENGINE_UNAVAILABLE" in str(error.trailing_metadata())
                assert "number" not in str(error.details()) and KEY not in str(error.details())
            assert len(remote.asked) == 1, wrong
        assert (await there.Answer(ask())).text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 302])
async def test_a_refusal_says_which_setting_to_look_at(
    remote: RemoteServer, status: int, artifacts: Path, tmp_path: Path
) -> None:
    async with student(remote, artifacts, None, tmp_path) as there:
        remote.next.append(Misbehaviour(status=status, headers={"Location": "http://127.0.0.1:1/"}, body={"error": {"message": "no", "code": "bad_thing"}}))  # fmt: skip
        said = await _refusal(there.Answer(ask()), "ENGINE_REFUSED", f"HTTP {status}")
        assert "NESYCD_STUDENT_ENGINE_" in said or "address" in said
        assert len(remote.asked) == 1


async def test_a_server_that_writes_more_than_it_was_asked_is_cut(
    remote: RemoteServer, artifacts: Path, tmp_path: Path
) -> None:
    remote.says = lambda _: "legs "
    remote.always = Misbehaviour(endless=True)
    async with student(remote, artifacts, None, tmp_path) as there:
        answer = await asyncio.wait_for(there.Answer(ask(decoding=Decoding(max_new_tokens=11))), 20)
        assert answer.truncated and answer.text == "legs legs l" and answer.completion_tokens <= 11


async def test_nobody_waits_longer_than_the_caller_and_the_server_is_told(
    remote: RemoteServer, artifacts: Path, tmp_path: Path
) -> None:
    remote.always = Misbehaviour(wait=0.4)
    async with student(remote, artifacts, None, tmp_path, engine_timeout_seconds=3) as there:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await there.Answer(ask(), timeout=1.5)
        assert caught.value.code() == CODE.DEADLINE_EXCEEDED
        call = there.AnswerStream(AnswerStreamRequest(request=ask(1)))
        await call.read()
        call.cancel()
        code, reason, _ = await fails(there.Answer(ask()))
        assert (code, reason) == (CODE.UNAVAILABLE, "ENGINE_UNAVAILABLE"), "the student's own limit"
        for _ in range(1000):
            if remote.gone >= 3 and remote.now == 0:
                break
            await asyncio.sleep(0.02)
        assert remote.gone >= 3 and remote.now == 0


async def test_a_gate_needs_probabilities(vllm: OpenAiServer, artifacts: Path, knowledge_server: KnowledgeServer, tmp_path: Path) -> None:  # fmt: skip
    vllm.probabilities = False
    async with student(vllm, artifacts, knowledge_server, tmp_path) as there:
        await _refusal(
            there.Answer(ask(retrieval=Retrieval(knowledge_base=DEMO, gate=0.5))),
            "ENGINE_WITHOUT_PROBABILITIES",
            "gate",
        )
        assert (await there.Answer(ask(retrieval=Retrieval(knowledge_base=DEMO)))).text


async def test_a_server_that_refuses_fields_of_its_own_is_sent_those_of_openai_only(
    vllm: OpenAiServer, artifacts: Path, knowledge_server: KnowledgeServer, tmp_path: Path
) -> None:
    gate = Retrieval(knowledge_base=DEMO, gate=NEVER_SURE)
    async with student(vllm, artifacts, knowledge_server, tmp_path, engine_extra_fields=False) as there:
        await there.Answer(ask(mode=ANSWER_MODE_CASCADE, retrieval=gate))
        known = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stream", "stream_options", "stop", "logprobs"}  # fmt: skip
        assert {name for asked in vllm.asked for name in asked} == known
        await _refusal(there.Answer(ask(decoding=Decoding(top_k=3))), "ENGINE_REFUSED", "EXTRA_FIELDS")


async def test_requests_at_the_server_are_bounded(vllm: OpenAiServer, artifacts: Path, tmp_path: Path) -> None:
    vllm.always = Misbehaviour(wait=0.005)
    async with student(vllm, artifacts, None, tmp_path, engine_concurrency=3) as there:
        rows = await batch(there, [ask(n % 3) for n in range(20)])
    assert len(rows) == 20 and vllm.most == 3


async def test_a_server_that_is_down_is_unavailable_until_it_is_back(
    remote: RemoteServer, artifacts: Path, tmp_path: Path
) -> None:
    async with student(remote, artifacts, None, tmp_path) as there:
        wanted = await there.Answer(ask())
        await remote.stop()
        code, reason, detail = await fails(there.Answer(ask()))
        assert (code, reason) == (CODE.UNAVAILABLE, "ENGINE_UNAVAILABLE") and detail.retry_delay.ToSeconds() >= 1
        await remote.start()
        assert await there.Answer(ask()) == wanted


async def test_without_a_key_none_is_sent_not_even_the_hubs(
    remote: RemoteServer, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    async with student(remote, artifacts, None, tmp_path, engine_api_key="") as there:
        await there.Answer(ask())
    assert set(remote.keys) == {None}


async def test_wrong_settings_end_the_start_with_what_to_change(
    remote: RemoteServer, artifacts: Path, tmp_path: Path
) -> None:
    with pytest.raises(StartError, match="NESYCD_STUDENT_ENGINE_MODEL"):
        async with student(remote, artifacts, None, tmp_path, engine_model="other"):
            pass
    with pytest.raises(StartError, match=r"tokenizer\.json"):
        async with student(remote, artifacts, None, tmp_path, base_model="other"):
            pass
    if getattr(remote, "kind", "") == "llamacpp":
        with pytest.raises(StartError, match="NESYCD_STUDENT_ENGINE_CONTEXT_LENGTH"):
            async with student(remote, artifacts, None, tmp_path, engine_context_length=0):
                pass


@pytest.mark.parametrize("engine", ["openai", "tgi"])
async def test_the_process_waits_for_the_server_loads_no_torch_and_tells_no_secrets(
    engine: str, words: Words, artifacts: Path, tmp_path: Path
) -> None:
    remote = TgiServer(words) if engine == "tgi" else OpenAiServer(words)
    process = service(
        "student", tmp_path, base_model="tiny", engine=engine, engine_url=remote.url, engine_api_key=KEY,
        artifacts_url=artifacts.as_uri(), knowledge_address="", state_dir=str(tmp_path / "state"), log_level="debug",
    )  # fmt: skip
    starting = asyncio.create_task(asyncio.to_thread(process.start))
    try:
        while not process.log.exists() or "waiting for the server that writes" not in process.log.read_text():
            assert not starting.done()
            await asyncio.sleep(0.1)
        async with remote.running():
            await starting
            assert process.popen is not None
            loaded = await asyncio.to_thread(Path(f"/proc/{process.popen.pid}/maps").read_text)
            assert "libtorch" not in loaded and "tokenizers" in loaded
            async with grpc.aio.insecure_channel(process.address) as channel:
                there = StudentServiceStub(channel)
                assert (await there.Answer(AnswerRequest(question="What is the xyzzy?"))).text
                remote.always = FAILED
                await fails(there.Answer(AnswerRequest(question="What is the xyzzy?")))
        log = process.log.read_text()
        assert KEY not in log and "xyzzy" not in log and "Traceback" not in log
        assert await asyncio.to_thread(process.stop) == 0
    finally:
        process.kill()
