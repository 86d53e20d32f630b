"""Several students of one artifact store serve the same: what one is told, all do."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from aiohttp import web
from nesycd.student.v1 import (
    Alias,
    AnswerRequest,
    ListAdaptersRequest,
    ListAdaptersResponse,
    LoadAdapterRequest,
    Retrieval,
    SetAliasRequest,
    StudentServiceStub,
    UnloadAdapterRequest,
)

from services.student.registry import KEPT
from tests.component.student.remote_servers import OpenAiServer, RemoteServer, TgiServer, Words
from tests.component.student.test_student_process import PRODUCTION, V1, V2, ask, fails
from tests.component.student.test_student_remote import student
from tests.processes import Process, service

PATIENCE = 60.0
"""Seconds that a change is waited for; on a machine that has nothing else to do every student has followed it after 3, as docs/student.md says."""
LATER = "aliases/later"


def replica(folder: Path, model: Path, artifacts: Path) -> Process:
    """A student with settings of its own for nothing but its port and its folder."""
    return service(
        "student", folder, base_model="tiny", base_model_dir=str(model), artifacts_url=artifacts.as_uri(),
        knowledge_address="", state_dir=str(folder / "state"), dtype="float32", threads="1", max_new_tokens="8",
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact store with 12 more versions."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copytree(artifacts / "adapters" / "demo", folder / "adapters" / "demo")
    for number in range(12):
        shutil.copytree(artifacts / "adapters" / "demo" / "1", folder / "adapters" / "more" / str(number))
    return folder


@pytest.fixture(scope="module")
def pair(model: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process]]:
    made = tuple(replica(tmp_path_factory.mktemp(name), model, store) for name in ("one", "other"))
    try:
        for process in made:
            process.start()
        yield made  # type: ignore[misc]
    finally:
        for process in made:
            process.kill()


@asynccontextmanager
async def client(process: Process) -> AsyncIterator[StudentServiceStub]:
    async with grpc.aio.insecure_channel(process.address) as channel:
        yield StudentServiceStub(channel)


@pytest.fixture
async def both(pair: tuple[Process, Process]) -> AsyncIterator[tuple[StudentServiceStub, StudentServiceStub]]:
    """Clients of both; what a test loads and names is forgotten afterwards."""
    async with client(pair[0]) as one, client(pair[1]) as other:
        yield one, other
        listed = await one.ListAdapters(ListAdaptersRequest(page_size=100))
        for alias in listed.aliases:
            await one.SetAlias(SetAliasRequest(alias=Alias(name=alias.name)))
        for adapter in listed.adapters:
            await one.UnloadAdapter(UnloadAdapterRequest(adapter=adapter.name))


async def load(stub: StudentServiceStub, name: str) -> None:
    await stub.LoadAdapter(LoadAdapterRequest(adapter=name))


async def point(stub: StudentServiceStub, alias: str, adapter: str) -> None:
    await stub.SetAlias(SetAliasRequest(alias=Alias(name=alias, adapter=adapter)))


async def refusal(stub: StudentServiceStub, request: AnswerRequest) -> str:
    """Why a request is refused, once it is."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await stub.Answer(request)
            except grpc.aio.AioRpcError:
                return (await fails(stub.Answer(request)))[1]
            await asyncio.sleep(0.1)


async def listed(stub: StudentServiceStub) -> ListAdaptersResponse:
    return await stub.ListAdapters(ListAdaptersRequest(page_size=100))


async def test_what_is_loaded_through_one_is_served_by_the_other_at_once(
    both: tuple[StudentServiceStub, StudentServiceStub],
) -> None:
    one, other = both
    await load(one, V1)
    answer = await other.Answer(ask(adapter=V1))
    assert answer == await one.Answer(ask(adapter=V1)) and answer.adapter == V1
    await point(one, LATER, V1)
    assert await other.Answer(ask(adapter=LATER)) == answer
    assert await listed(one) == await listed(other)


async def test_an_alias_switched_through_one_is_followed_by_the_other_in_time_and_no_call_fails(
    both: tuple[StudentServiceStub, StudentServiceStub],
) -> None:
    one, other = both
    await load(one, V1)
    await point(one, PRODUCTION, V1)
    assert (await other.Answer(ask(adapter=PRODUCTION))).adapter == V1
    await load(one, V2)
    slowest = 0.0
    for version in (V2, V1, V2):
        switched = time.monotonic()
        await point(one, PRODUCTION, version)
        assert (await one.Answer(ask())).adapter == version, "the one that was told: at once"
        while (await other.Answer(ask())).adapter != version:
            assert time.monotonic() - switched < PATIENCE
        slowest = max(slowest, time.monotonic() - switched)
    print(f"the other student followed within {slowest:.2f} s")
    # What it reads is followed, too, and what is unloaded is gone everywhere.
    reading = Alias(name=PRODUCTION, adapter=V2, retrieval=Retrieval(knowledge_base="knowledgeBases/demo", top_k=2))
    await one.SetAlias(SetAliasRequest(alias=reading))
    assert await refusal(other, ask()) == "KNOWLEDGE_NOT_CONFIGURED"
    await one.SetAlias(SetAliasRequest(alias=Alias(name=PRODUCTION)))
    await one.UnloadAdapter(UnloadAdapterRequest(adapter=V2))
    assert await refusal(other, ask(adapter=V2)) == "ADAPTER_NOT_LOADED"
    assert (await fails(other.Answer(ask(adapter=PRODUCTION))))[1] == "ALIAS_NOT_FOUND"
    assert (await other.Answer(ask())).adapter == "base"


async def test_changes_through_both_at_the_same_time_are_all_kept(
    both: tuple[StudentServiceStub, StudentServiceStub],
) -> None:
    names = [f"adapters/more@{number}" for number in range(12)]
    await asyncio.gather(*(load(both[number % 2], name) for number, name in enumerate(names)))
    for stub in both:
        assert {adapter.name for adapter in (await listed(stub)).adapters} == set(names)
    await asyncio.gather(*(point(both[n % 2], f"aliases/a{n}", name) for n, name in enumerate(names)))
    for stub in both:
        assert {alias.name: alias.adapter for alias in (await listed(stub)).aliases} == {
            f"aliases/a{n}": name for n, name in enumerate(names)
        }
    answers = await asyncio.gather(*(both[n % 2].Answer(ask(adapter=f"aliases/a{n}")) for n in range(12)))
    assert [answer.adapter for answer in answers] == names
    # The same version, through both: one of them is the first, and both have it.
    await asyncio.gather(*(load(stub, V1) for stub in both * 3))
    assert [adapter.name for adapter in (await listed(both[0])).adapters].count(V1) == 1


async def test_a_student_killed_in_the_middle_of_changes_leaves_them_done_or_not_begun(
    pair: tuple[Process, Process], both: tuple[StudentServiceStub, StudentServiceStub], store: Path
) -> None:
    victim, witness = pair[0], both[1]
    await load(witness, V1)
    chance = random.Random(6)
    for _ in range(4):
        told = {"acknowledged": -1, "sent": -1}

        async def change(told: dict[str, int] = told) -> None:
            async with client(victim) as stub:
                for number in range(10_000):
                    told["sent"] = number
                    retrieval = Retrieval(knowledge_base="knowledgeBases/demo", top_k=1 + number % 20, disabled=True)
                    alias = Alias(name=f"aliases/n{number % 3}", adapter=V1, retrieval=retrieval)
                    await stub.SetAlias(SetAliasRequest(alias=alias))
                    told["acknowledged"] = number

        changing = asyncio.create_task(change())
        while told["acknowledged"] < 3 and not changing.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(chance.random() * 0.3)
        victim.kill()
        with suppress(grpc.aio.AioRpcError):
            await changing
        newest = {alias.name: alias.retrieval.top_k for alias in (await listed(witness)).aliases}
        for back in range(3):
            number = told["sent"] - back
            if number <= told["acknowledged"]:
                assert newest[f"aliases/n{number % 3}"] in {1 + number % 20, 1 + (number + 3) % 20}
        assert (await witness.Answer(ask(adapter="aliases/n0"))).adapter == V1
        await asyncio.to_thread(victim.start)
        async with client(victim) as again:
            assert await listed(again) == await listed(witness)
    # Killed while it removed an old state, it may leave an empty folder, which the next change removes.
    states = {int(path.name): path / "state.json" for path in (store / "students" / "tiny").glob("[0-9]*")}
    assert all(file.is_file() for number, file in states.items() if number > max(states) - KEPT)


async def test_a_student_that_starts_later_has_all_before_it_is_ready(
    both: tuple[StudentServiceStub, StudentServiceStub], model: Path, store: Path, tmp_path: Path
) -> None:
    await load(both[0], V1)
    await point(both[1], PRODUCTION, V1)
    answer = await both[0].Answer(ask(adapter=V1))
    later = replica(tmp_path, model, store)
    await asyncio.to_thread(later.start)
    shutil.move(store / "adapters", store / "away")
    try:
        async with client(later) as stub:
            assert await stub.Answer(ask()) == answer, "it need not read anything any more"
            assert await listed(stub) == await listed(both[0])
    finally:
        shutil.move(store / "away", store / "adapters")
        later.kill()


async def test_a_damaged_state_stops_a_student_that_starts_and_none_that_serves(
    both: tuple[StudentServiceStub, StudentServiceStub], model: Path, store: Path, tmp_path: Path
) -> None:
    await load(both[0], V1)
    await both[1].Answer(ask(adapter=V1))
    newest = max((store / "students" / "tiny").glob("[0-9]*"), key=lambda path: int(path.name)) / "state.json"
    content = newest.read_bytes()
    newest.write_bytes(content[:20])
    try:
        late = replica(tmp_path, model, store)
        with pytest.raises(AssertionError, match=rf"cannot start: \S+{newest.parent.name}/state\.json cannot be read"):
            await asyncio.to_thread(late.start)
        assert "Traceback" not in late.log.read_text()
        await asyncio.sleep(3)  # a look at it later
        for stub in both:
            assert (await stub.Answer(ask(adapter=V1))).adapter == V1
            code, reason, _ = await fails(load(stub, V2))
            assert (code, reason) == (grpc.StatusCode.DATA_LOSS, "REGISTRY_DAMAGED")
    finally:
        newest.write_bytes(content)


# --- before one server that writes


@pytest.fixture(scope="session")
def words(model: Path) -> Words:
    return Words(model)


@pytest.fixture
def servers(store: Path, model: Path) -> Path:
    """The store, with the tokenizer that such a student needs."""
    tokenizer = store / "models" / "tiny" / "tokenizer.json"
    tokenizer.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.write_bytes((model / "tokenizer.json").read_bytes())
    return store


class Slow(OpenAiServer):
    """Is asked by both students to load the first adapter before it has loaded it for either."""

    def __init__(self, words: Words, *, kind: str) -> None:
        super().__init__(words, kind=kind)
        self._came = 0
        self._both = asyncio.Event()

    async def load(self, request: web.Request) -> web.Response:
        self._came += 1
        if self._came == 2:
            self._both.set()
        await self._both.wait()
        return await super().load(request)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_two_students_before_one_server_have_it_load_and_forget_an_adapter_once(
    kind: str, words: Words, servers: Path, tmp_path: Path
) -> None:
    quick = {"registry_poll_seconds": 0.1}
    async with Slow(words, kind=kind).running() as remote:
        assert isinstance(remote, OpenAiServer)
        async with (
            student(remote, servers, None, tmp_path, **quick) as one,
            student(remote, servers, None, tmp_path, **quick) as other,
        ):
            await asyncio.gather(load(one, V1), load(other, V1))
            assert len(remote.paths) == 2 and list(remote.adapters) == [V1], "to be told that it is loaded is no error"
            await load(one, V2)
            answer = await other.Answer(ask(adapter=V2))
            assert answer == await one.Answer(ask(adapter=V2)) and len(remote.paths) == 3
            await one.UnloadAdapter(UnloadAdapterRequest(adapter=V2))
            assert await refusal(other, ask(adapter=V2)) == "ADAPTER_NOT_LOADED"
            await asyncio.sleep(0.5)  # some looks at the registry later
            assert list(remote.adapters) == [V1]
            remote.adapters.clear()  # as by a restart
            answers = await asyncio.gather(*(stub.Answer(ask(adapter=V1)) for stub in (one, other)))
            assert answers[0] == answers[1] and list(remote.adapters) == [V1]


async def test_two_students_before_a_server_with_adapters_of_its_own(
    words: Words, servers: Path, tmp_path: Path
) -> None:
    given = {"demo": str(servers / "adapters/demo/1")}
    vllm = OpenAiServer(words, loads=False)
    vllm.adapters = dict(given)
    for number, remote in enumerate[RemoteServer]((vllm, TgiServer(words, given))):
        own = {"engine_models": {V1: "demo"}, "registry_url": (tmp_path / str(number)).as_uri()}
        async with (
            remote.running(),
            student(remote, servers, None, tmp_path, **own) as one,
            student(remote, servers, None, tmp_path, **own) as other,
        ):
            await load(one, V1)
            assert (await other.Answer(ask(adapter=V1))).text == (await one.Answer(ask(adapter=V1))).text
